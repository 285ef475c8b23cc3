"""Programs that train something real from start to end; `gradflow train NAME` runs them."""

from __future__ import annotations

# What each does. The module of the same name has arguments(parser) and run(args, device).
EXAMPLES = {"lenet": "a convolutional network that reads handwritten digits"}

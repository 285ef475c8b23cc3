"""Programs that train something real from start to end; `gradflow train NAME` runs them."""

from __future__ import annotations

# Name and what it does; the module of the same name has arguments(parser) and run(args), and is loaded when it is asked for.
EXAMPLES = {"lenet": "a convolutional network that reads handwritten digits"}

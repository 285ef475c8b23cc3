"""torch.return_types: the classes of results with named parts."""

from __future__ import annotations

from ..ops.extreme import RETURNED

globals().update(RETURNED)

"""torch.return_types: the classes of results with named parts."""

from __future__ import annotations

from ..ops import decomposition, eigen, extreme, factors, householder, lapack, least, solve, statistics, triangular  # noqa: F401 (they fill the table)
from ..ops.results import RETURNED

globals().update(RETURNED)

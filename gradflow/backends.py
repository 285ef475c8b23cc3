"""Settings of what computes, by PyTorch's names: gradflow.backends.cuda.matmul.allow_tf32 and its like."""

from __future__ import annotations

from types import SimpleNamespace

from .cuda import is_available
from .cuda.precision import matmul

cuda = SimpleNamespace(matmul=matmul, is_built=is_available)

"""torch.signal's names: the windows of signal processing."""

from . import windows

__all__ = ["windows"]

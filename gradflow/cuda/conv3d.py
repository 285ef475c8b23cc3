"""The kernels of kernels/conv3d.cu, which gradflow/cuda/conv.py launches for convolutions in three dims."""

from __future__ import annotations

from . import conv


def instantiations() -> list[str]:
    """Every kernel that the launchers can ask for."""
    return [k.replace("conv_", "conv3d_", 1) for k in conv.instantiations() if not k.startswith("conv_add_parts")]

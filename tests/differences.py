"""What PyTorch's own samples find different, and why; every other operator answers as PyTorch does (tests/test_samples.py)."""

from __future__ import annotations

# Operator: why gradflow's answer to one of PyTorch's samples is another, or there is none.
DIFFERENCES = {
    "addbmm": "PyTorch's addbmm_ gives a smaller tensor the result's shape; gradflow's refuses it, as both refuse in baddbmm_",
    "istft": "the sample's window is a view made without gradients, for which PyTorch has none; gradflow does",
    "masked.logaddexp": "where both inputs are left out, PyTorch's second gradient is NaN; gradflow's is 0",
}

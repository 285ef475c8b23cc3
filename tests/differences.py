"""What PyTorch's own samples find different, and why; every other operator answers as PyTorch does (tests/test_samples.py)."""

from __future__ import annotations

# Operator: why gradflow's answer to one of PyTorch's samples is another, or there is none.
DIFFERENCES = {
    "addbmm": "PyTorch's addbmm_ gives a smaller tensor the result's shape; gradflow's refuses it, as both refuse in baddbmm_",
    "as_strided_scatter": "PyTorch's gradient of input is not that of its values: its own gradcheck refuses it",
    "cov": "weights in float32 among float64: gradients of the weights agree to float32's rounding",
    "istft": "the sample's window is a view made without gradients, for which PyTorch has none; gradflow does",
    "logcumsumexp": "PyTorch's gradient in float32 cancels: gradflow's is nearer to the one in float64",
    "masked.logsumexp": "PyTorch counts a left-out element of an unsigned dtype as 0, so as e^0 = 1",
    "masked.logaddexp": "where both inputs are left out, PyTorch's second gradient is NaN; gradflow's is 0",
}

"""What PyTorch's own samples find different, and why; every other operator answers as PyTorch does (tests/test_samples.py)."""

from __future__ import annotations

# Operator: why gradflow's answer to one of PyTorch's samples is another, or there is none.
DIFFERENCES = {
    "addbmm": "PyTorch's addbmm_ gives a smaller tensor the result's shape; gradflow's refuses it, as both refuse in baddbmm_",
    "as_strided_scatter": "PyTorch's gradient of input is not that of its values: its own gradcheck refuses it",
    "chalf": "NumPy has no complex dtype of half floats",
    "cov": "weights in float32 among float64: gradients of the weights agree to float32's rounding",
    "grid_sampler_3d": "in float32 a place computed with one rounding more or less moves 1 element in 8,000 by 1e-5",
    "istft": "the sample's window is a view made without gradients, for which PyTorch has none; gradflow does",
    "logcumsumexp": "PyTorch's gradient in float32 cancels: gradflow's is nearer to the one in float64",
    "masked.logsumexp": "PyTorch counts a left-out element of an unsigned dtype as 0, so as e^0 = 1",
    "nn.functional.hardsigmoid": "in float64 the slope is float64's 1/6, PyTorch's a float32 one",
    "nn.functional.local_response_norm": "of integers PyTorch truncates the mean of squares",
    "special.airy_ai": "PyTorch's is right to 1e-8 only, as its Bessel functions of float64 are",
    "special.bessel_j0": "as special.airy_ai",
    "special.bessel_j1": "as special.airy_ai",
    "special.bessel_y0": "as special.airy_ai",
    "special.bessel_y1": "as special.airy_ai",
    "masked.logaddexp": "where both inputs are left out, PyTorch's second gradient is NaN; gradflow's is 0",
}

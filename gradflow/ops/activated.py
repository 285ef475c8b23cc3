"""The affine map of a linear layer and the activation that follows it as one op, which the card does by one kernel."""

from __future__ import annotations

from typing import Any

from ..cases import Sampler, case
from ..op import op
from . import linalg
from .conv import ACTIVATIONS, check_activation


def _linear_gradients(g, x, w, b, y, w_shape, needs, activation):
    how = ACTIVATIONS[activation]
    g = how.gradient(g, linalg.linear(x, w, b) if how.of_input else y)
    return (
        linalg._linear_dx(g, w) if needs[0] else None,
        linalg._linear_dw(g, x, w_shape) if needs[1] else None,
        g if needs[2] else None,
    )


def _linear_cases(r: Sampler) -> list[case]:
    return [
        *(case(r(3, 4), r(5, 4), r(5), activation) for activation in ACTIVATIONS),
        case(r(3, 4), r(5, 4)),
        case(r(4), r(5, 4), r(5), "tanh"),
        case(r(2, 3, 4), r(5, 4), None, "silu"),
        case(r.strided(3, 4), r.strided(5, 4), r(5), "sigmoid"),
        case(r(0, 4), r(5, 4), r(5), "gelu"),
        case(r(3, 0), r(5, 0), r(5), "tanh"),
        case(r(2, 3, 4), r(4), r(), "tanh"),
    ]


def _linear_reference(torch: Any, x: Any, w: Any, b: Any = None, activation: str = "relu") -> Any:
    f = torch.nn.functional
    y = f.linear(x, w, b)
    return f.gelu(y, approximate="tanh") if activation == "gelu_tanh" else getattr(f, activation)(y)


@op(dx_dw_db=_linear_gradients, twin="gemm", cases=_linear_cases, reference=_linear_reference)
def linear_activation(x, w, b=None, activation="relu"):
    """activation(x w^T + b), one of relu, gelu, gelu_tanh, silu, sigmoid and tanh: x (..., i), w (o, i), b (o) or None.

    On the card the activation is applied to what is stored anyway. The gradients of gelu and silu need what was put in, and
    multiply again for it; those of the others need y. ValueError for another word, RuntimeError for sizes as of linear.
    """
    check_activation("linear_activation", activation, x)
    return ACTIVATIONS[activation].function(linalg.linear(x, w, b))

"""An operation of one's own: Multiply, a Function with a forward, a backward, and what the one saves for the other.

d(a b) = b da + a db: the gradient of each factor is the other one times the gradient of the product. gradcheck compares the
backward with differences, gradgradcheck the backward of the backward.
"""

from __future__ import annotations

from typing import Any

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main


class Multiply(gf.autograd.Function):
    """a b, numbers side by side."""

    @staticmethod
    def forward(ctx: Any, a: gf.Tensor, b: gf.Tensor) -> gf.Tensor:
        """The product; both factors are kept for the gradients."""
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx: Any, g: gf.Tensor) -> tuple[gf.Tensor, gf.Tensor]:
        """(g b, g a)."""
        a, b = ctx.saved_tensors
        return g * b, g * a


def run(page: Page) -> None:
    """The Function beside the operator, in a small net, and checked by differences."""
    a, b = (gf.randn(3, 4, dtype=gf.float64, device=page.device, requires_grad=True) for _ in range(2))
    own, usual = Multiply.apply(a, b).sin().sum(), (a * b).sin().sum()
    mine, theirs = (gf.autograd.grad(loss, [a, b]) for loss in (own, usual))
    apart = max((m - t).abs().max().item() for m, t in zip(mine, theirs, strict=True))
    page.result("gradients of Multiply and of * apart by", apart, at_most=0.0)
    page.result("gradcheck", str(gf.autograd.gradcheck(Multiply.apply, (a, b))), equal="True")
    page.result("gradgradcheck", str(gf.autograd.gradgradcheck(Multiply.apply, (a, b))), equal="True")
    drawing = gf.draw(own, names={"a": a, "b": b, "loss": own})
    page.picture(drawing, "graph.png", "Multiply on the tape, between two leaves and a sine.")


if __name__ == "__main__":
    raise SystemExit(main("multiply"))

"""f = (x + y) z with every gradient in between: the chain rule on the smallest graph that shows it.

At x = -2, y = 5, z = -4 the sum is q = 3 and f = q z = -12; going back, df/dq = z = -4, df/dz = q = 3, and the sum hands its
gradient on to both: df/dx = df/dy = -4.
"""

from __future__ import annotations

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main


def run(page: Page) -> None:
    """Compute f and its gradients, and draw the graph with all of them."""
    x, y, z = (gf.tensor(v, device=page.device, requires_grad=True) for v in (-2.0, 5.0, -4.0))
    q = x + y
    f = q * z
    q.retain_grad()  # only leaves keep their gradient unless asked to
    f.retain_grad()
    f.backward(retain_graph=True)
    named = {"x": x, "y": y, "z": z, "q": q, "f": f}
    for name, t, value, gradient in zip(named, named.values(), (-2, 5, -4, 3, -12), (-4, -4, 3, -4, 1), strict=True):
        page.result(name, t.item(), equal=value)
        page.result(f"df/d{name}", t.grad.item(), equal=gradient)
    drawing = gf.draw(f, names=named, values=True)
    page.note(drawing.dot)  # Graphviz: `dot -Tsvg graph.dot` draws it, too
    drawing.save(page.out / "graph.dot")
    page.picture(drawing, "graph.png", "The graph of f = (x + y) z: values forward, gradients back.")


if __name__ == "__main__":
    raise SystemExit(main("graph"))

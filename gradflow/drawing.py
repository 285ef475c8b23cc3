"""The graph of what was recorded, drawn: ops and the tensors between them, as Graphviz text or as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from . import backend
from .op import unwrap
from .tape import Leaf, Output, Traced
from .traced import current

PICTURES = (".png", ".svg", ".pdf")


class Vertex:
    """A box: an op (its name), or a tensor (its name, shape, and if it is asked for, value and gradient)."""

    def __init__(self, kind: str, lines: list[str]) -> None:
        self.kind, self.lines = kind, lines  # kind: "op", "leaf" or "tensor"
        self.before: list[int] = []  # places of the vertices whose arrows end here, in order


class Drawing:
    """What draw() gives: `dot` is Graphviz text, save() writes that or a picture, a notebook shows the picture.

    vertices  the boxes, each after those it depends on
    """

    def __init__(self, vertices: list[Vertex]) -> None:
        self.vertices = vertices

    @property
    def dot(self) -> str:
        """The graph in Graphviz's language."""
        styles = {
            "op": "shape=ellipse, style=filled, fillcolor=lightgray", "leaf": "shape=box, style=filled, fillcolor=lightblue",
            "tensor": "shape=box, style=filled, fillcolor=lightyellow",
        }  # fmt: skip
        lines = ["digraph recorded {", "  rankdir=LR;", '  node [fontname="monospace", fontsize=10];']
        for i, v in enumerate(self.vertices):
            text = r"\n".join(line.replace("\\", r"\\").replace('"', r"\"") for line in v.lines)
            lines.append(f'  n{i} [label="{text}", {styles[v.kind]}];')
        lines += [f"  n{j} -> n{i};" for i, v in enumerate(self.vertices) for j in v.before]
        return "\n".join([*lines, "}", ""])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the graph: as text if the name ends in .dot or .gv, as a picture by matplotlib if in .png, .svg or .pdf.
        ValueError for another ending.
        """
        path = Path(path)
        if path.suffix in (".dot", ".gv"):
            path.write_text(self.dot)
        elif path.suffix in PICTURES:
            self.figure().savefig(path, bbox_inches="tight")
        else:
            raise ValueError(f"draw: wanted a name ending in .dot, .gv, {', '.join(PICTURES)}, saw {path.name!r}")
        return path

    def figure(self) -> Any:
        """The graph as a matplotlib Figure, from left to right. ImportError without matplotlib."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        at, (wide, high) = _spread(self.vertices)
        figure = Figure(figsize=(wide, high), dpi=150)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, wide)
        axes.set_ylim(high, 0)
        colours = {"op": "#dddddd", "leaf": "#cfe8f7", "tensor": "#fff6cc"}
        boxes = []
        for v, (x, y) in zip(self.vertices, at, strict=True):
            style = "round4,pad=0.35" if v.kind == "op" else "square,pad=0.35"
            box = {"boxstyle": style, "facecolor": colours[v.kind], "edgecolor": "#555555"}
            boxes.append(axes.text(x, y, "\n".join(v.lines), ha="center", va="center", fontsize=8, family="monospace", bbox=box))
        figure.canvas.draw()  # the boxes get their sizes, at which the arrows begin and end
        inverse = axes.transData.inverted()
        half = [np.abs(np.ptp(inverse.transform(b.get_bbox_patch().get_window_extent()), axis=0)) / 2 for b in boxes]
        arrow = {"arrowstyle": "-|>", "color": "#555555", "shrinkA": 0, "shrinkB": 0}
        for i, v in enumerate(self.vertices):
            for j in v.before:
                way = np.subtract(at[i], at[j])
                start, end = at[j] + way * _edge(half[j], way), at[i] - way * _edge(half[i], way)
                axes.annotate("", tuple(end), tuple(start), arrowprops=arrow)
        return figure

    def _repr_svg_(self) -> str:
        import io

        text = io.StringIO()
        self.figure().savefig(text, format="svg", bbox_inches="tight")
        return text.getvalue()


def _edge(half: Any, way: Any) -> float:
    """The part of a way from the middle of a box to its edge, of a box of these half sizes."""
    return min(h / abs(w) for h, w in zip(half, way, strict=True) if w)


def draw(*outputs: Any, names: Mapping[str, Any] | None = None, values: bool = False, shapes: bool = True) -> Drawing:
    """The graph of how tensors were computed, from the leaves that ask for gradients to the outputs.

    names   {name: tensor}: what to call tensors; those in between get a box of their own. A module's
            dict(model.named_parameters()) names its parameters
    values  say the value, and the gradient where there is one, of every named tensor, of the leaves and of the outputs
    shapes  say the shape of the leaves and of what each op gives
    TypeError for outputs that are no tensors, RuntimeError for one that nothing was recorded for.
    """
    named: dict[Any, tuple[str, Any]] = {}  # node -> name, tensor
    for name, t in (names or {}).items():
        if isinstance(t, Traced) and current(t) is not None:
            named[current(t)] = (name, t)
    ends = []
    for t in outputs:
        if not isinstance(t, Traced):
            raise TypeError(f"draw: wanted tensors, saw {type(t).__name__}")
        node = current(t)
        if node is None:
            raise RuntimeError("draw: wanted a tensor that something was recorded for, saw one that requires no gradient")
        ends.append(node)
        named.setdefault(node, ("", t))
    vertices: list[Vertex] = []
    place: dict[Any, int] = {}

    def box(kind: str, lines: list[str], before: list[int]) -> int:
        v = Vertex(kind, lines)
        v.before = before
        vertices.append(v)
        return len(vertices) - 1

    for node in _ordered(ends):
        shape = [_by(node.shape)] if shapes and type(node) is not Output and node.shape and type(node.shape[0]) is int else []
        if type(node) is Leaf:
            name, t = named.get(node, ("", node.tensor()))
            lines = [*([name] if name else []), *shape, *(_values(t) if values else [])]
            place[node] = box("leaf", lines or ["leaf"], [])
            continue
        before = [place[e] for e in node.edges if e in place]
        if type(node) is Output:
            place[node] = before[0]
        else:
            place[node] = box("op", [node.name, *shape], before)
        if node in named and (named[node][0] or values):
            name, t = named[node]
            lines = [*([name] if name else []), *(_values(t) if values else [])]
            place[node] = box("tensor", lines, [place[node]])
    return Drawing(vertices)


def _ordered(ends: list[Any]) -> list[Any]:
    """All nodes that the ends depend on, each after those it depends on."""
    seen, stack = set(ends), list(ends)
    while stack:
        for edge in getattr(stack.pop(), "edges", ()):
            if edge is not None and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    # An Output may be numbered before the node that made it, but comes after it.
    nodes = [n for n in seen if type(n) is not Leaf]
    nodes.sort(key=lambda n: (n.edges[0].time, 1, n.index) if type(n) is Output else (n.time, 0, 0))
    leaves = dict.fromkeys(e for n in (*nodes, *ends) for e in (n, *getattr(n, "edges", ())) if type(e) is Leaf)
    return [*leaves, *nodes]


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) if shape else "()"


def _values(t: Any) -> list[str]:
    """The value and the gradient of a tensor, shortened where it is long."""
    if t is None:
        return []
    found = [f"= {_text(t)}"]
    gradient = t.grad if type(current(t)) is Leaf or t.retains_grad else None
    return found + ([f"grad {_text(gradient)}"] if gradient is not None else [])


def _text(t: Any) -> str:
    a = backend.asnumpy(unwrap(t))
    if a.ndim == 0:
        return f"{a.item():.4g}"
    with np.printoptions(precision=4, suppress=True, threshold=8, edgeitems=2):
        return np.array2string(a, separator=", ") if a.size else "[]"


def _spread(vertices: list[Vertex]) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """The middle of each box in inches, columns as wide and rows as high as their texts ask for, and the size of it all."""
    character, line, gap = 0.067, 0.13, 0.42  # of 8 points, monospaced
    at = layout(vertices)
    widths = [0.0] * (1 + int(max((c for c, _ in at), default=0)))
    for v, (c, _) in zip(vertices, at, strict=True):
        widths[int(c)] = max(widths[int(c)], gap + character * max(map(len, "\n".join(v.lines).split("\n"))))
    ends = list(accumulate(widths))
    high = gap + line * max((len("\n".join(v.lines).split("\n")) for v in vertices), default=0)
    size = ends[-1], high * (1 + max((r for _, r in at), default=0))
    return [(ends[int(c)] - widths[int(c)] / 2, high * (r + 0.5)) for c, r in at], size


def layout(vertices: list[Vertex]) -> list[tuple[float, float]]:
    """(column, row) of each vertex: as far right as its longest way from a leaf, leaves beside what they go into; rows in
    the order of what lies before and after (Sugiyama, Tagawa, Toda 1981), and no two in one place.
    """
    columns = [0] * len(vertices)
    after: list[list[int]] = [[] for _ in vertices]
    for i, v in enumerate(vertices):
        columns[i] = max((columns[j] + 1 for j in v.before), default=0)
        for j in v.before:
            after[j].append(i)
    for i, v in enumerate(vertices):
        if not v.before and after[i]:
            columns[i] = min(columns[j] for j in after[i]) - 1
    ranks: dict[int, list[int]] = {}
    for i, c in enumerate(columns):
        ranks.setdefault(c, []).append(i)
    rows = [0.0] * len(vertices)
    for members in ranks.values():
        for r, i in enumerate(members):
            rows[i] = float(r)
    for sweep in range(9):
        for c in sorted(ranks, reverse=bool(sweep % 2)):
            near = {i: (after[i] if sweep % 2 else vertices[i].before) for i in ranks[c]}
            centre = {i: sum(rows[j] for j in n) / len(n) if n else rows[i] for i, n in near.items()}
            order = sorted(ranks[c], key=lambda i: (centre[i], rows[i]))
            low = -float("inf")
            for i in order:
                rows[i] = low = max(centre[i], low + 1)
    top = min(rows, default=0)
    return [(float(c), r - top) for c, r in zip(columns, rows, strict=True)]

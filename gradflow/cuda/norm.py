"""Layer, RMS, batch and group norm on the card: which kernels of norm.cu a shape takes, and in what pieces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import is_floating, namespace
from ..ops.reduce import wide
from . import layout, norm_columns, row
from .launch import blocks, ctype, launch, multiprocessors

SHORT = 16  # planes up to this length are reduced as columns of the (n, c l) matrix
FULL = 512  # about as many blocks as fill a card
DOWN, ACROSS = "columns<16>", "lanes<32>"  # the teams that merge partial results: of neighbouring sets, or of one


def _names(x: Any, *weights: Any) -> list[str]:
    """The C++ types of x and of the weights; empty for a mixture that the kernels do not take."""
    given = [w for w in weights if w is not None]
    if not is_floating(x.dtype) or any(w.dtype not in (x.dtype, wide(x.dtype)) for w in given):
        return []
    if len({w.dtype for w in given}) > 1:
        return []
    return [ctype(x.dtype), ctype(given[0].dtype if given else x.dtype)]


def _statistics(kind: Any, *arrays: Any) -> list[Any]:
    """Arrays of statistics in one piece and in the dtype to compute in; None stays None."""
    return _whole(*(None if v is None else v.astype(kind, copy=False) for v in arrays))


def _whole(*arrays: Any) -> list[Any]:
    return [None if v is None else row.ready(v) for v in arrays]


def _split(m: int, n: int) -> tuple[int, int]:
    """(blocks along the rows, rows to each) for reducing the columns of an (m, n) matrix."""
    each = blocks(m, min(blocks(FULL, blocks(n, 32)), blocks(m, 64)))
    return blocks(m, each), each


# --- rows -------------------------------------------------------------------------------------------------


def _matrix(x: Any, normalized_shape: Any) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """(rows, row length, shape of the weights, shape of the statistics) of a layer norm of x."""
    sizes = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
    k = len(x.shape) - len(sizes)
    if k < 0 or x.shape[k:] != sizes:
        return 0, 0, sizes, ()
    return math.prod(x.shape[:k]), math.prod(sizes), sizes, (*x.shape[:k], *(1,) * len(sizes))


def _normed(
    x: Any, m: int, n: int, saved: tuple, w: Any, b: Any, eps: float, centre: str, l: int = 0, groups: int = 1
) -> Any:
    """(y, mean, rstd) of m rows of n; a weight to each of a row's values, or to l of them, for `groups` rows in turn."""
    xp, kind, (x, w, b) = namespace(x), wide(x.dtype), _whole(x, w, b)
    y, rstd = xp.empty(x.shape, x.dtype), xp.empty(saved, kind)
    mean, names, size = xp.empty(saved, kind) if centre == "true" else None, _names(x, w, b), x.dtype.itemsize
    pieces = row.pieces(x, m, n, (2, 3))
    if pieces:
        parts, cut = xp.empty((2, m * pieces), kind), (pieces, row.PIECE)
        kernel = row.piece_team(size).name("norm_plane_moments", names[0])
        launch("norm", kernel, m * pieces, 256, x, parts[0], parts[1], m * pieces, n, *cut)
        arrays, numbers = (x, w, b, parts[0], parts[1], y, mean, rstd), (n, l, groups, *cut, np.float64(eps))
        launch("norm", f"norm_finish<{', '.join(names)}, {16 // size}>", m * pieces, 256, *arrays, *numbers)
        return y, mean, rstd
    t = row.choose(n, 1, size, resident=1)
    room, shared = t.room(x, n)
    numbers = m, n, l, groups, np.float64(eps), np.int32(room)
    launch("norm", t.name("norm_rows", *names, centre), row.grid(t, m), t.block, x, w, b, y, mean, rstd, *numbers, shared=shared)
    return y, mean, rstd


def _rows(x: Any, normalized_shape: Any, w: Any, b: Any, eps: float, centre: str) -> Any:
    m, n, sizes, saved = _matrix(x, normalized_shape)
    if not m * n or m > row.MOST_ROWS or not _names(x, w, b) or any(v is not None and v.shape != sizes for v in (w, b)):
        return NotImplemented
    return _normed(x, m, n, saved, w, b, eps, centre)


def _gradient_teams(itemsize: int) -> list[row.Team]:
    """The teams of the gradient, which hold two rows and two sums of columns."""
    vec, short = 16 // itemsize, row.short(itemsize)
    return [*short[:2], row.lanes(256, vec, vec), *short[3:], row.large(itemsize, 2, 1)]


def _rows_backward(
    g: Any,
    x: Any,
    normalized_shape: Any,
    w: Any,
    mean: Any,
    rstd: Any,
    gmean: Any,
    grstd: Any,
    needs: tuple,
    centre: str,
) -> Any:
    m, n, sizes, _ = _matrix(x, normalized_shape)
    names = _names(x, w)
    if not m * n or m > row.MOST_ROWS or not names or g.dtype != x.dtype:
        return NotImplemented
    xp, kind, size = namespace(x), wide(x.dtype), x.dtype.itemsize
    g, x, w = _whole(g, x, w)
    mean, rstd, gmean, grstd = _statistics(kind, mean, rstd, gmean, grstd)
    *teams, large = _gradient_teams(size)
    longest = n if n % (16 // size) == 0 else n + 16 // size - 1
    t = next((t for t in teams if longest <= t.block[0] * t.kept), large)
    dx = xp.empty(x.shape, x.dtype) if needs[0] else None
    pieces = row.pieces(x, m, n, (3, 5)) if needs[0] else 0
    sums, together = needs[1] or needs[2], longest == n and t is not large and not pieces
    part_g, part_gx, grid = None, None, row.grid(t, m)
    if sums and together:  # a few blocks to each multiprocessor, each with sums of its own
        grid = min(grid, multiprocessors(x.device.id) * max(4096 // (t.block[0] * t.block[1] * max(t.kept, 4)), 1))
        part_g, part_gx = (xp.empty((grid, n), kind) if need else None for need in (needs[2], needs[1]))
    if pieces:
        parts, rest = xp.empty((m, pieces, 2), kind), (n, pieces, row.PIECE)
        kinds = f"{', '.join(names)}, {16 // size}"
        launch("norm", f"norm_backward_parts<{kinds}>", m * pieces, 256, g, x, w, mean, rstd, parts, *rest)
        arrays = g, x, w, mean, rstd, gmean, grstd, parts, dx
        launch("norm", f"norm_backward_finish<{kinds}>", m * pieces, 256, *arrays, *rest)
    elif needs[0] or part_g is not None or part_gx is not None:
        room, shared = t.room(x, n, 2)
        arrays = g, x, w, mean, rstd, gmean, grstd, dx, part_g, part_gx
        kernel = t.name("norm_rows_backward", *names, centre)
        launch("norm", kernel, grid, t.block, *arrays, m, n, np.int32(room), shared=shared)
    db = dw = None
    if sums:
        if not together:
            part_g, part_gx = _column_sums(g, x, mean, rstd, m, n, needs[2], needs[1])
        outer = len(part_gx if part_g is None else part_g)
        db, dw = _merged(part_g, part_gx, n, outer, 1, dtype=x.dtype if w is None else w.dtype)
    return dx, *(None if v is None else v.reshape(sizes) for v in (dw, db))


def _column_sums(g: Any, x: Any, mean: Any, rstd: Any, m: int, n: int, need_g: bool, need_gx: bool) -> tuple[Any, Any]:
    """Partial sums of g and g xh over the rows of (m, n) matrices, None for those not needed."""
    xp, kind = namespace(x), wide(x.dtype)
    splits, each = _split(m, n)
    a, c = (xp.empty((splits, n), kind) if need else None for need in (need_g, need_gx))
    kernel = f"norm_column_sums<{ctype(x.dtype)}, columns<8>>"
    launch("norm", kernel, (blocks(n, 32), splits), (32, 8), g, x, mean, rstd, a, c, m, n, each)
    return a, c


def _merged(
    part_g: Any, part_gx: Any, sets: int, outer: int, inner: int, w: Any = None, pieces: int = 1, d: int = 1, c: int = 1,
    dtype: Any = None,
) -> tuple[Any, Any]:
    """Sums over i and j of partial results (i, set, j), None for those not given; w weights them by channel first."""
    like = part_gx if part_g is None else part_g
    xp, dtype = namespace(like), like.dtype if dtype is None else dtype
    a, b = (None if p is None else xp.empty(sets, dtype) for p in (part_g, part_gx))
    team, block, per = (ACROSS, (32, 8), 8) if outer == 1 else (DOWN, (32, 16), 32)
    kinds = ctype(like.dtype), ctype(like.dtype if w is None else w.dtype), ctype(dtype)
    kernel = f"norm_sums<{', '.join(kinds)}, {team}>"
    launch("norm", kernel, blocks(sets, per), block, part_g, part_gx, w, a, b, sets, outer, inner, pieces, d, c)
    return a, b


def layer_norm_forward(x: Any, normalized_shape: Any, w: Any, b: Any, eps: float) -> Any:
    """(y, mean, rstd)."""
    return _rows(x, normalized_shape, w, b, eps, "true")


def layer_norm_backward(
    g: Any, x: Any, normalized_shape: Any, w: Any, mean: Any, rstd: Any, gmean: Any, grstd: Any, needs: tuple
) -> Any:
    """(dx, dw, db)."""
    return _rows_backward(g, x, normalized_shape, w, mean, rstd, gmean, grstd, needs, "true")


def rms_norm_forward(x: Any, normalized_shape: Any, w: Any, eps: float | None) -> Any:
    """(y, rstd)."""
    if not is_floating(x.dtype):
        return NotImplemented
    eps = float(np.finfo(wide(x.dtype)).eps) if eps is None else eps
    found = _rows(x, normalized_shape, w, None, eps, "false")
    return found if found is NotImplemented else found[::2]


def rms_norm_backward(g: Any, x: Any, normalized_shape: Any, w: Any, rstd: Any, grstd: Any, needs: tuple) -> Any:
    """(dx, dw)."""
    found = _rows_backward(g, x, normalized_shape, w, None, rstd, None, grstd, (*needs, False), "false")
    return found if found is NotImplemented else found[:2]


# --- planes -----------------------------------------------------------------------------------------------


def _kept(itemsize: int) -> list[row.Team]:
    """The teams that hold a piece of a plane."""
    return row.short(itemsize)[:4]


class Planes:
    """An array of shape (n, c, ...) as n c planes of l values, and how they are cut into pieces for reductions."""

    def __init__(self, x: Any) -> None:
        self.n, self.c = x.shape[:2]
        self.l = math.prod(x.shape[2:])
        self.pieces = blocks(self.l, row.PIECE)
        self.each = self.l if self.pieces == 1 else row.PIECE
        self.count = self.n * self.c * self.pieces
        self.dtype, self.kind = x.dtype, wide(x.dtype)

    @property
    def taken(self) -> bool:
        """Whether the kernels take it: floating, with elements, its planes numbered with 32 bits."""
        return (
            is_floating(self.dtype)
            and 0 < self.count <= row.MOST_ROWS
            and self.l > 0
            and self.c * self.l <= row.MOST_ROWS
        )

    @property
    def team(self) -> row.Team:
        """The team for one piece, which it keeps in registers."""
        vec = 16 // self.dtype.itemsize
        longest = self.each if self.l % vec == 0 else self.each + vec - 1
        return next(t for t in _kept(self.dtype.itemsize) if longest <= t.block[0] * t.kept)

    def held(self, x: Any, arrays: int) -> tuple[int, int] | None:
        """(values per load, bytes of shared memory) if a block can hold a channel of so many arrays like x."""
        shared = self.n * self.l * self.dtype.itemsize * arrays
        vec = 16 // self.dtype.itemsize
        vec = vec if self.l % vec == 0 else 1
        fits = self.l > SHORT and shared <= row.shared_limit(x.device.id) - 2 * row.RESERVED
        return (vec, row.with_room(shared)) if fits else None

    def along(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(grid, block) of the kernels that go through planes by packs of 16 bytes."""
        vec = 16 // self.dtype.itemsize
        loads = blocks(self.l + (vec - 1 if self.l % vec else 0), vec)
        across = min(256, 1 << max(loads - 1, 0).bit_length())
        planes = blocks(self.n * self.c, 256 // across)
        return (planes, min(blocks(loads, across), blocks(4 * FULL, planes), 65535)), (across, 256 // across)


def _moments(x: Any, p: Planes, eps: float) -> tuple[Any, Any]:
    """(mean, rstd) of every channel."""
    xp, sets = namespace(x), p.c
    mean, rstd = xp.empty(sets, p.kind), xp.empty(sets, p.kind)
    if p.l <= SHORT:
        *parts, each = norm_columns.moments(x, p.n, p.c * p.l)
        shares = (len(parts[0]), p.l, p.n, each, p.l, p.l, 1)  # outer, inner; rows, rows to a part; l, pieces, their size
    else:
        parts, t = xp.empty((2, p.count), p.kind), p.team
        kernel = t.name("norm_plane_moments", ctype(p.dtype))
        launch("norm", kernel, row.grid(t, p.count), t.block, x, parts[0], parts[1], p.count, p.l, p.pieces, p.each)
        shares = (p.n, p.pieces, p.n, 1, p.l, p.pieces, p.each)
    team, block, per = (ACROSS, (32, 8), 8) if shares[0] == 1 else (DOWN, (32, 16), 32)
    total, kernel = np.float64(x.size // sets), f"norm_moments<{ctype(p.kind)}, {team}>"
    numbers = sets, *shares, total, np.float64(eps)
    launch("norm", kernel, blocks(sets, per), block, parts[0], parts[1], mean, rstd, *numbers)
    return mean, rstd


def _apply(x: Any, p: Planes, mean: Any, rstd: Any, w: Any, b: Any, eps: float = -1.0) -> Any:
    """(x - mean) rstd w + b, or with eps (x - mean) / sqrt(rstd + eps) w + b."""
    y = namespace(x).empty(x.shape, x.dtype)
    if p.l == 1 and norm_columns.taken(x, p.c):
        norm_columns.apply(_names(x, w, b), x.reshape(p.n, p.c), mean, rstd, w, b, y, eps)
        return y
    grid, block = p.along()
    kernel = f"norm_apply<{', '.join(_names(x, w, b))}, {16 // x.dtype.itemsize}>"
    launch("norm", kernel, grid, block, x, mean, rstd, w, b, y, p.n * p.c, p.l, p.c, np.float64(eps))
    return y


def _forward(x: Any, groups: int | None, w: Any, b: Any, eps: float) -> Any:
    if x.ndim < 2 or (groups is not None and (groups < 1 or x.shape[1] % groups)):
        return NotImplemented
    p = Planes(x)
    if not p.taken or not _names(x, w, b) or any(v is not None and v.shape != (p.c,) for v in (w, b)):
        return NotImplemented
    x, w, b = _whole(x, w, b)
    sets = p.c if groups is None and p.n == 1 else groups  # a set is a row where it lies in one piece
    if sets is not None:
        saved = (p.c,) if groups is None else (p.n, groups)
        return _normed(x, p.n * sets, p.c // sets * p.l, saved, w, b, eps, "true", p.l, sets)
    held = p.held(x, 1)
    if held is not None:
        xp = namespace(x)
        y, mean, rstd = xp.empty(x.shape, x.dtype), xp.empty(p.c, p.kind), xp.empty(p.c, p.kind)
        kernel, sizes = f"norm_channels<{', '.join(_names(x, w, b))}, {held[0]}>", (p.c, p.l, p.n * p.l, np.float64(eps))
        launch("norm", kernel, p.c, 512, x, w, b, y, mean, rstd, *sizes, shared=held[1])
        return y, mean, rstd
    mean, rstd = _moments(x, p, eps)
    return _apply(x, p, mean, rstd, w, b), mean, rstd


def _plane_sums(g: Any, x: Any, p: Planes, mean: Any, rstd: Any, width: int) -> tuple[Any, Any]:
    """Sums of g and of g xh over the pieces of planes."""
    parts, t = namespace(x).empty((2, p.count), p.kind), p.team
    kernel, sizes = t.name("norm_plane_sums", ctype(p.dtype)), (p.count, p.l, p.pieces, p.each, p.c, width)
    launch("norm", kernel, row.grid(t, p.count), t.block, g, x, mean, rstd, parts[0], parts[1], *sizes)
    return parts[0], parts[1]


def _backward(
    g: Any, x: Any, groups: int | None, w: Any, mean: Any, rstd: Any, gmean: Any, grstd: Any, needs: tuple
) -> Any:
    p = Planes(x)
    if not p.taken or not _names(x, w) or g.dtype != x.dtype:
        return NotImplemented
    g, x, w = _whole(g, x, w)
    mean, rstd, gmean, grstd = _statistics(p.kind, mean, rstd, gmean, grstd)
    dx = sg = sgx = sw = swx = None
    held = p.held(x, 2) if groups is None else None
    if held is not None:
        xp, kind = namespace(x), x.dtype if w is None else w.dtype
        dx = xp.empty(x.shape, x.dtype) if needs[0] else None
        dw, db = (xp.empty(p.c, kind) if need else None for need in needs[1:])
        kernel = f"norm_channels_backward<{', '.join(_names(x, w))}, {held[0]}>"
        arrays, sizes = (g, x, w, mean, rstd, gmean, grstd, dx, dw, db), (p.c, p.l, p.n * p.l)
        launch("norm", kernel, p.c, 512, *arrays, *sizes, shared=held[1])
        return dx, dw, db
    width = 0 if groups is None else p.c // groups
    if groups is None and p.l <= SHORT:
        a, c = norm_columns.sums(g, x, mean, rstd, p.n, p.c * p.l, p.l)
        sg, sgx = _merged(a, c, p.c, len(a), p.l)
    else:
        a, c = _plane_sums(g, x, p, mean, rstd, width)
        if groups is None or needs[1] or needs[2]:
            sg, sgx = _merged(a, c, p.c, p.n, p.pieces)
        if groups is not None and needs[0]:
            sw, swx = _merged(a, c, p.n * groups, 1, width * p.pieces, w, p.pieces, width, p.c)
    if needs[0]:
        dx = namespace(x).empty(x.shape, x.dtype)
    if needs[0] and p.l == 1 and groups is None and norm_columns.taken(x, p.c):
        norm_columns.dx(_names(x, w), g, x.reshape(p.n, p.c), w, (mean, rstd, gmean, grstd, sg, sgx), dx)
    elif needs[0]:
        grid, block = p.along()
        kernel, total = f"norm_dx<{', '.join(_names(x, w))}, {16 // x.dtype.itemsize}>", np.float64(x.size // len(mean.ravel()))
        sums = (sg, sgx) if groups is None else (sw, swx)
        statistics, sizes = (mean, rstd, gmean, grstd, *sums), (p.n * p.c, p.l, p.c, width, total, groups is None)
        launch("norm", kernel, grid, block, g, x, w, *statistics, dx, *sizes)
    dtype = x.dtype if w is None else w.dtype
    weights: list[Any] = [sgx if needs[1] else None, sg if needs[2] else None]
    return dx, *(None if v is None else v.astype(dtype, copy=False) for v in weights)


def _matrix_of(x: Any) -> Any:
    """x of shape (n, c, ...) as a matrix of c columns: a view where its channels are last."""
    return layout.rows(x).reshape(-1, x.shape[1])


def _array_of(y: Any, x: Any) -> Any:
    """What _matrix_of made of an array like x as such an array, its channels last; NotImplemented and None as they are."""
    return y if y is NotImplemented or y is None else layout.planes(y.reshape(layout.rows(x).shape))


def batch_norm_forward(x: Any, w: Any, b: Any, eps: float) -> Any:
    """(y, mean, rstd)."""
    if layout.channels_last(x):
        found = _forward(_matrix_of(x), None, w, b, eps)
        return found if found is NotImplemented else (_array_of(found[0], x), *found[1:])
    return _forward(x, None, w, b, eps)


def batch_norm_backward(g: Any, x: Any, w: Any, mean: Any, rstd: Any, gmean: Any, grstd: Any, needs: tuple) -> Any:
    """(dx, dw, db)."""
    if layout.channels_last(x):
        found = _backward(_matrix_of(g), _matrix_of(x), None, w, mean, rstd, gmean, grstd, needs)
        return found if found is NotImplemented else (_array_of(found[0], x), *found[1:])
    return _backward(g, x, None, w, mean, rstd, gmean, grstd, needs)


def batch_norm_eval(x: Any, mean: Any, var: Any, w: Any, b: Any, eps: float) -> Any:
    """(x - mean) / sqrt(var + eps) w + b."""
    if x.ndim < 2 or eps < 0:
        return NotImplemented
    if layout.channels_last(x):
        return _array_of(batch_norm_eval(_matrix_of(x), mean, var, w, b, eps), x)
    p = Planes(x)
    if not p.taken or not _names(x, w, b) or any(v is not None and v.shape != (p.c,) for v in (mean, var, w, b)):
        return NotImplemented
    x, w, b = _whole(x, w, b)
    mean, var = _statistics(p.kind, mean, var)
    return _apply(x, p, mean, var, w, b, eps)


def batch_norm_running(
    running_mean: Any, running_var: Any, mean: Any, rstd: Any, n: int, momentum: float, eps: float
) -> Any:
    """Move the running statistics in place."""
    both = running_mean, running_var
    dtype, kind = running_mean.dtype, wide(rstd.dtype)
    if running_var.dtype != dtype or wide(dtype) != kind or not all(v.flags.c_contiguous for v in both):
        return NotImplemented
    c, numbers = running_mean.size, map(np.float64, (n, momentum, eps))
    kernel = f"norm_running<{ctype(dtype)}, {ctype(kind)}>"
    launch("norm", kernel, blocks(c, 256), 256, *both, *_statistics(kind, mean, rstd), c, *numbers)
    return both


def group_norm_forward(x: Any, num_groups: int, w: Any, b: Any, eps: float) -> Any:
    """(y, mean, rstd)."""
    return _forward(x, num_groups, w, b, eps)


def group_norm_backward(
    g: Any, x: Any, num_groups: int, w: Any, mean: Any, rstd: Any, gmean: Any, grstd: Any, needs: tuple
) -> Any:
    """(dx, dw, db)."""
    return _backward(g, x, num_groups, w, mean, rstd, gmean, grstd, needs)


def instantiations() -> list[str]:
    """Every kernel that may be launched."""
    found = []
    for c, size in row.types():
        acc = "double" if size == 8 else "float"
        weights = dict.fromkeys((c, acc))
        vec, parts = 16 // size, (ACROSS, DOWN)
        for w in weights:
            found += [t.name("norm_rows", c, w, centre) for centre in ("true", "false") for t in row.every(size, resident=1)[:-1]]
            found += [
                t.name("norm_rows_backward", c, w, centre) for centre in ("true", "false") for t in _gradient_teams(size)
            ]
            pieces = ("norm_finish", "norm_backward_parts", "norm_backward_finish")
            found += [f"{k}<{c}, {w}, {vec}>" for k in ("norm_apply", "norm_dx", *pieces)]
            found += [f"{k}<{c}, {w}, {v}>" for k in ("norm_channels", "norm_channels_backward") for v in (1, vec)]
            found += [f"norm_sums<{acc}, {w}, {acc}, {t}>" for t in parts]
            found += [f"norm_sums<{acc}, {acc}, {w}, {t}>" for t in parts]
        found += [t.name(k, c) for k in ("norm_plane_moments", "norm_plane_sums") for t in _kept(size)]
        found += [f"norm_column_sums<{c}, columns<8>>", f"norm_running<{c}, {acc}>"]
        found += [f"norm_moments<{acc}, {t}>" for t in parts]
    return list(dict.fromkeys(found))

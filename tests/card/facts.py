"""What a card answers to expressions of x f h b z m i, 3 x 4 arrays of float64, 32, 16, bfloat16, complex, bool and int32:
CuPy itself and the stand-in must agree on each.
"""

import warnings

import numpy as np

EXPRESSIONS = """
x + 2.0 | 2 * x | x * x[0, 0] | x / 2 | x**2 | x + True | x + i | x + f | h * 2.0 | f * np.float32(2) | f * np.float64(2)
b + 2.0 | 2.0 * b | b * 2 | b + b | b * m | b > 0.5 | b / 2.0 | b**2 | -b * 0.5 | b + f | b + h
cp.maximum(b, 0.5) | cp.maximum(b, 0) | cp.minimum(b, b) | cp.where(m, b, 0.0) | cp.where(m, b, b) | cp.where(m, h, 0.0)
cp.where(m, x, 0) | cp.clip(b, 0, 1) | cp.round(b) | cp.exp(b) | cp.sqrt(h) | b.sum() | b.mean() | b.max(axis=0) | h.sum()
b @ b.T | cp.matmul(b, b.T) | b[None] @ b.T[None] | cp.matmul(b[None], b.T) | cp.matmul(h[None], h.T)
cp.concatenate([b, b]) | b.astype("f4") | b.T.copy()
cp.matmul(x, x.T, cp.empty((3, 3))) | cp.matmul(x, x.T, out=cp.empty((3, 3))) | cp.add(x, 1, x) | cp.add(x, 1, out=x)
cp.add(x, 1, where=m) | cp.sum(x, where=m) | x.max(initial=0) | cp.amax(x, axis=0, keepdims=True)
cp.logical_and(z, z) | cp.logical_not(z) | cp.logical_not(x) | abs(z) | z.real | z * 2.0 | cp.angle(z)
cp.add.at(z[0], i[0], z[0, :2]) | cp.add.at(x[0], i[0], x[0, :2]) | cp.add.at(b[0], i[0], b[0, :2])
cp.add.at(m[0], i[0], m[0, :2]) | cp.True_ | cp.errstate() | cp.geomspace(1, 2) | cp.block([x]) | cp.spacing(x)
cp.linalg.outer(x[0], x[0]) | cp.linalg.vector_norm(x) | cp.linalg.norm(x)
cp.einsum_path("ij->i", x) | cp.nanquantile(x, 0.5)
np.spacing(x) | np.geomspace(x, x) | np.exp(x) | np.where(m, x, x) | np.add(x, np.ones(4)) | np.concatenate([x, x])
x + np.ones(4) | np.ones(4) + x | np.asarray(x) | x[0, 0].item() | x[0].item() | x.item(0) | float(x[0, 0]) | float(x[0])
range(i[0, 0]) | [1, 2, 3][i[0, 0]] | np.zeros(3)[i[0, 0]] | cp.zeros(i[0, 0]) | bool(x) | len(x) | len(x[0, 0]) | hash(x)
iter(x[0, 0]) | x[0, 0] | x[0, 5] | x[5] | x[1:9].shape | x[:, None, ::-1].strides | x[..., 1].shape | x[x > 0].ndim
x.reshape(4, 3).flags.c_contiguous | x.T.flags.c_contiguous | x.T.flags.f_contiguous | x.T.base is x | x.base | x[:0].max()
x.sum(axis=(0, 1)) | x.sum(axis=()) | x.sum(axis=-1, keepdims=True) | x.sum(dtype="f4") | i.sum() | m.sum() | i.mean()
x.transpose(1, 0).shape | x.swapaxes(0, 1).shape | x.ravel().shape | x.view("i8") | x.astype("f8", copy=False) is x
cp.asarray([1, 2]) | cp.asarray(1.5) | cp.asarray(np.float32(1)) | cp.asarray(x) is x | cp.array(x) is x | cp.asarray([x[0], x[1]])
cp.empty((2, 3), "f2").shape | cp.zeros(3) | cp.full(3, 2) | cp.arange(3) | cp.arange(3.0) | cp.linspace(0, 1, 3) | cp.eye(2)
cp.cumsum(x, axis=1) | cp.argmax(x, axis=1) | cp.take(x, i, axis=1).shape | cp.diff(x) | cp.flip(x, 0) | cp.roll(x, 1)
cp.broadcast_to(x, (2, 3, 4)).strides | cp.tensordot(x, x, 2) | cp.einsum("ij,kj->ik", x, x) | cp.outer(x[0], x[0])
cp.fft.fft(f) | cp.fft.rfft(h) | cp.fft.fft(x) | cp.isnan(x) | cp.sign(x) | cp.floor_divide(x, 2) | x % 2 | x // 2 | divmod(i, 2)
""".replace("\n", " | ").split(" | ")
EXPRESSIONS = [e for e in EXPRESSIONS if e]


def outcome_of(cp, expression):
    """The dtype and shape of what an expression gives on the card cp, or its type and value, or the exception."""
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        bfloat16 = np.float16
    names = {"cp": cp, "np": np}
    for name, shape, dtype in (("x", (3, 4), "f8"), ("f", (3, 4), "f4"), ("h", (3, 4), "f2"), ("b", (3, 4), bfloat16),
                               ("z", (3, 4), "c8"), ("m", (3, 4), "?"), ("i", (3, 4), "i4")):  # fmt: skip
        names[name] = cp.zeros(shape, dtype)
    names["i"] = names["i"][:, :2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = eval(expression, names)
    except Exception as e:  # noqa: BLE001 - that it is raised is the answer
        return type(e).__name__
    if isinstance(y, tuple) and y and isinstance(y[0], cp.ndarray):
        y = y[0]
    if isinstance(y, cp.ndarray):
        return f"{y.dtype} {y.shape}"
    return f"{type(y).__name__} {y}" if type(y) in (int, bool, tuple) else type(y).__name__

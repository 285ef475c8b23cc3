"""cuDNN's convolutions, against a stand-in for NVIDIA's frontend that reads the graph it is given and computes it."""

import ctypes
import enum
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from tolerance import assert_close

from gradflow.cuda import conv, cudnn, precision, tune

pytestmark = pytest.mark.cuda


class NotSupported(Exception):
    pass


def enumeration(name, words):
    return enum.Enum(name, words.split())


Kind = enumeration("data_type", "NOT_SET FLOAT DOUBLE HALF BFLOAT16")
DTYPES = {Kind.FLOAT: "float32", Kind.DOUBLE: "float64", Kind.HALF: "float16"}


class Tensor:
    def __init__(self, uid, dim=None, stride=None, data_type=None, name=""):
        self.uid, self.dim, self.stride, self.kind, self.name, self.output = uid, dim, stride, data_type, name, False

    def get_uid(self):
        return self.uid

    def _set(self, **values):
        self.__dict__.update(values)
        return self

    def set_output(self, on):
        return self._set(output=on)

    def set_dim(self, dim):
        return self._set(dim=dim)

    def set_stride(self, stride):
        return self._set(stride=stride)

    def set_data_type(self, kind):
        return self._set(kind=kind)

    def view(self, pointer):
        """The array at an address that has this tensor's dims and strides."""
        dtype = np.dtype(DTYPES[self.kind])
        n = 1 + sum((d - 1) * s for d, s in zip(self.dim, self.stride, strict=True))
        flat = np.frombuffer((ctypes.c_char * (n * dtype.itemsize)).from_address(pointer), dtype)
        strides = [s * dtype.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(flat, self.dim, strides)


class PyGraph:
    """One convolution, computed tap by tap in float64 from what was said of it."""

    made: list = []

    def __init__(self, name, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert handle == 77
        self.tensors, self.io, self.computed = [], io_data_type, compute_data_type
        self.steps, self.built, self.avoided = [], [], []
        self.made.append(self)

    def tensor(self, dim, stride, data_type, name):
        self.tensors.append(Tensor(len(self.tensors) + 10, dim, stride, data_type, name))
        return self.tensors[-1]

    def _conv(self, x, w, y, result, pre_padding, post_padding, stride, dilation, compute_data_type):
        self.x, self.w, self.y, self.result = x, w, y, result
        self.window = pre_padding, post_padding, stride, dilation
        self.compute = compute_data_type
        return result

    def conv_fprop(self, image, weight, **window):
        y = Tensor(1)
        return self._conv(image, weight, y, y, **window)

    def conv_dgrad(self, loss, filter, **window):
        x = Tensor(1)
        return self._conv(x, filter, loss, x, **window)

    def conv_wgrad(self, image, loss, **window):
        w = Tensor(1)
        return self._conv(image, w, loss, w, **window)

    def __getattr__(self, name):
        if name not in ("validate", "build_operation_graph", "create_execution_plans", "check_support"):
            raise AttributeError(name)
        if name == "check_support" and self.x.dim[0] == 13:
            raise NotSupported("no engine")
        return lambda *args: self.steps.append(name)

    def deselect_numeric_notes(self, notes):
        self.steps.append("deselect_numeric_notes")
        self.avoided = {n.name for n in notes}

    def get_execution_plan_count(self):
        return 3

    def build_plan_at_index(self, plan):
        if plan == 1:
            raise NotSupported("not on this card")
        self.built.append(plan)

    def get_workspace_size_plan_at_index(self, plan):
        assert plan in self.built
        return 1000 * plan

    def execute_plan_at_index(self, pointers, workspace, plan, handle):
        assert plan in self.built and handle == 77 and bool(workspace) is (plan > 0)
        assert set(pointers) == {t.uid for t in (self.x, self.w, self.y)} and self.result.output
        if workspace:
            np.frombuffer((ctypes.c_char * (1000 * plan)).from_address(workspace), np.uint8)[:] = 255
        x, w, y = (t.view(pointers[t.uid]) for t in (self.x, self.w, self.y))
        before, after, stride, dilation = self.window
        for i, (size, b, a) in enumerate(zip(x.shape[2:], before, after, strict=True)):
            reach = (w.shape[2 + i] - 1) * dilation[i] + 1
            assert b >= 0 and a >= 0 and (size + b + a - reach) // stride[i] + 1 == y.shape[2 + i]
        pads = [(0, 0), (0, 0), *zip(before, after, strict=True)]
        wide = np.pad(x.astype(float) if self.result is not self.x else np.zeros(x.shape), pads)
        out = np.zeros(self.result.dim)
        c, k = w.shape[1], w.shape[0] // (x.shape[1] // w.shape[1])
        for group, tap in product(range(x.shape[1] // c), np.ndindex(*w.shape[2:])):
            cs, ks = slice(group * c, group * c + c), slice(group * k, group * k + k)
            seen = tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, o, s in zip(tap, dilation, y.shape[2:], stride, strict=True)
            )
            image = wide[(slice(None), cs, *seen)]
            if self.result is self.y:
                out[:, ks] += np.einsum("nc...,kc->nk...", image, w[(ks, slice(None), *tap)].astype(float))
            elif self.result is self.x:
                image += np.einsum("nk...,kc->nc...", y[:, ks].astype(float), w[(ks, slice(None), *tap)].astype(float))
            else:
                axes = [0, *range(2, x.ndim)]
                out[(ks, slice(None), *tap)] = np.tensordot(y[:, ks].astype(float), image, (axes, axes))
        if self.result is self.x:
            out = wide[(slice(None), slice(None), *(slice(b, b + n) for b, n in zip(before, x.shape[2:], strict=True)))]
        self.result.view(pointers[self.result.uid])[...] = out


@pytest.fixture
def frontend(card, monkeypatch):
    """The stand-in for the module cudnn, in use."""
    if card.__name__ == "cupy":
        pytest.skip("the stand-in for the frontend reads the stand-in card's memory")
    streams, PyGraph.made = [], []
    module = SimpleNamespace(
        pygraph=PyGraph, data_type=Kind, heur_mode=enumeration("heur_mode", "A B FALLBACK"),
        numerical_note=enumeration(
            "note", "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION FFT NONDETERMINISTIC WINOGRAD"
        ),
        cudnnGraphNotSupportedError=NotSupported, create_handle=lambda: 77, backend_version=lambda: 91300,
        set_stream=lambda handle, stream: streams.append((handle, stream)), streams=streams,
    )  # fmt: skip
    monkeypatch.setattr(cudnn, "library", lambda: module)
    cudnn.variants.cache_clear()
    cudnn._here.__dict__.clear()
    tune.prefer("cudnn")
    yield module
    tune.prefer("")
    tune.forget()
    cudnn.variants.cache_clear()
    cudnn._here.__dict__.clear()


def reference(name):
    torch = pytest.importorskip("torch")
    return lambda *args, **kwargs: getattr(torch.nn.functional, name)(
        *[None if a is None else torch.from_numpy(np.ascontiguousarray(a)).double() for a in args], **kwargs
    ).numpy()


def close(y, z, dtype):
    assert_close(y.get().astype(float), z, np.dtype(dtype))


# --- values -----------------------------------------------------------------------------------------------------------

CASES = [
    ((2, 4, 6, 7), (6, 4, 3, 3), {"padding": 1}),
    ((2, 4, 7, 8), (6, 2, 3, 2), {"stride": (2, 3), "padding": (1, 0), "groups": 2}),
    ((1, 3, 9, 9), (5, 3, 3, 3), {"dilation": (2, 3), "padding": 3, "stride": 2}),
    ((2, 3, 4, 4), (2, 3, 1, 1), {"stride": 2}),
]


def out_shape(x, w, stride=1, padding=0, dilation=1, groups=1):
    pair = lambda v: v if isinstance(v, tuple) else (v, v)
    each = zip(x[2:], w[2:], pair(stride), pair(padding), pair(dilation), strict=True)
    return (x[0], w[0], *((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in each))


@pytest.mark.reference
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), CASES)
def test_forward(frontend, card, x_shape, w_shape, options, dtype):
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (x_shape, w_shape, w_shape[:1]))
    y = conv.conv2d(*map(card.asarray, (x, w, b)), **options)
    close(y, reference("conv2d")(x, w, b, **options), dtype)
    assert frontend.streams == [(77, card.cuda.get_current_stream().ptr)]


@pytest.mark.reference
@pytest.mark.parametrize(("x_shape", "w_shape", "options"), CASES)
def test_gradients(frontend, card, x_shape, w_shape, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    x, w, g = (rng.standard_normal(s).astype("float32") for s in (x_shape, w_shape, out_shape(x_shape, w_shape, **options)))
    tx, tw = (torch.from_numpy(a).double().requires_grad_() for a in (x, w))
    torch.nn.functional.conv2d(tx, tw, **options).backward(torch.from_numpy(g).double())
    close(conv.conv2d_input(card.asarray(g), card.asarray(w), x_shape, **options), tx.grad.numpy(), "float32")
    close(conv.conv2d_weight(card.asarray(g), card.asarray(x), w_shape, **options), tw.grad.numpy(), "float32")
    assert len(PyGraph.made) == 2


@pytest.mark.reference
def test_transposed_and_one_and_three_dims(frontend, card):
    rng = np.random.default_rng(3)
    x, w, b = (rng.standard_normal(s).astype("float32") for s in ((2, 4, 5, 4), (4, 3, 3, 3), (3,)))
    options = {"stride": 2, "padding": 1, "output_padding": 1}
    y = conv.conv_transpose2d(*map(card.asarray, (x, w, b)), **options)
    close(y, reference("conv_transpose2d")(x, w, b, **options), "float32")
    x, w = (rng.standard_normal(s).astype("float32") for s in ((2, 4, 9), (6, 4, 3)))
    close(conv.conv1d(card.asarray(x), card.asarray(w), padding=2), reference("conv1d")(x, w, padding=2), "float32")
    x, w = (rng.standard_normal(s).astype("float32") for s in ((1, 2, 4, 5, 3), (3, 2, 2, 2, 2)))
    close(conv.conv3d(card.asarray(x), card.asarray(w), padding=1), reference("conv3d")(x, w, padding=1), "float32")
    assert len(PyGraph.made) == 3


# --- the graph --------------------------------------------------------------------------------------------------------


def job_of(dtype="float32", n=2, allow=False, **options):
    """The graph that a convolution on the card leads to."""
    import card

    before = precision.conv_tf32()
    precision.conv_tf32(allow)
    try:
        conv.conv2d(card.zeros((n, 4, 5, 5), dtype), card.zeros((6, 4, 3, 3), dtype), **options)
    finally:
        precision.conv_tf32(before)
    return PyGraph.made[-1]


def test_the_graph_says_all(frontend):
    made = job_of(padding=1, stride=2)
    assert (made.x.dim, made.x.stride) == ([2, 4, 5, 5], [100, 25, 5, 1])
    assert (made.w.dim, made.w.stride) == ([6, 4, 3, 3], [36, 9, 3, 1])
    assert (made.y.dim, made.y.stride) == ([2, 6, 3, 3], [54, 9, 3, 1])
    assert made.window == ([1, 1], [1, 1], [2, 2], [1, 1])
    assert made.io is made.compute is made.computed is Kind.FLOAT
    assert {t.kind for t in (made.x, made.w, made.y)} == {Kind.FLOAT}
    assert made.steps == [
        "validate", "build_operation_graph", "create_execution_plans", "deselect_numeric_notes", "check_support",
    ]  # fmt: skip


@pytest.mark.parametrize("rank", [2, 3])
def test_channels_last(frontend, card, rank):
    """The graph has each array's strides, and the values are those of C order."""
    rng, last = np.random.default_rng(4), (0, *range(2, rank + 2), 1)
    x, w = (rng.standard_normal((n, 4, *sizes[:rank])).astype("float32") for n, sizes in ((2, (5, 4, 3)), (6, (3, 2, 1))))
    name, back = f"conv{rank}d", (0, rank + 1, *range(1, rank + 1))
    plain = getattr(conv, name)(card.asarray(x), card.asarray(w))
    turned = card.asarray(x.transpose(last).copy()).transpose(back)
    y = getattr(conv, name)(turned, card.asarray(w))
    assert (y.get() == plain.get()).all() and y.transpose(last).flags.c_contiguous
    made, item = PyGraph.made[-1], x.itemsize
    assert [s * item for s in made.x.stride] == [*turned.strides] and [s * item for s in made.y.stride] == [*y.strides]
    assert made.w.stride[-1] == 1
    g = getattr(conv, name + "_weight")(y, turned, w.shape, last=True)
    assert (g.get() == getattr(conv, name + "_weight")(plain, card.asarray(x), w.shape).get()).all()
    assert PyGraph.made[-2].w.stride[1] == 1 and PyGraph.made[-1].w.stride[-1] == 1


def test_half_types_are_summed_in_float(frontend):
    made = job_of("float16")
    assert made.io is Kind.HALF and made.compute is made.computed is Kind.FLOAT
    assert made.avoided == {"NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION"}


def test_float_is_float_unless_tf32_is_allowed(frontend):
    chance = {"NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "DOWN_CONVERT_INPUTS"}
    assert job_of().avoided == chance | {"TENSOR_CORE"}
    assert job_of(allow=True).avoided == chance
    double = job_of("float64")
    assert double.computed is Kind.DOUBLE and "TENSOR_CORE" in double.avoided


def test_a_graph_is_built_once(frontend, card):
    job_of()
    made = len(PyGraph.made)
    job_of()
    assert len(PyGraph.made) == made and PyGraph.made[-1].built == [0]
    job_of(padding=1)
    assert len(PyGraph.made) == made + 1


# --- which plan, and whether ------------------------------------------------------------------------------------------


def test_the_tuner_passes_plans_that_are_not_there(frontend, card, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("GRADFLOW_TUNE", "1")
    seconds, seen = {0: 3.0, 2: 1.0}, []

    def clock(call):
        call()
        seen.append(frontend.plan)
        return seconds[frontend.plan]

    execute = PyGraph.execute_plan_at_index

    def watched(self, pointers, workspace, plan, handle):
        frontend.plan = plan
        execute(self, pointers, workspace, plan, handle)

    monkeypatch.setattr(PyGraph, "execute_plan_at_index", watched)
    monkeypatch.setattr(tune, "clock", clock)
    monkeypatch.setattr(tune, "_spent", 0.0)
    job_of()
    assert frontend.plan == 2 and set(seen) == {0, 2}  # plan 1 cannot be built, and there is no plan 3


def test_no_plan_at_all(frontend):
    with pytest.raises(NotImplementedError, match="no engine"):
        job_of(n=13)


def test_own_kernels_run_unless_the_tuner_says_otherwise(frontend, card):
    tune.prefer("")
    conv.conv2d(card.zeros((2, 4, 5, 5), "float32"), card.zeros((6, 4, 3, 3), "float32"))
    assert not PyGraph.made


def test_jobs_that_it_does_not_take(frontend, card):
    x, w = card.zeros((2, 4, 5, 5), "float32"), card.zeros((4, 6, 2, 2), "float32")
    conv.conv_transpose2d(x, w, stride=2, dilation=4, output_padding=3)  # more zeros behind than a window counts
    assert not PyGraph.made


def test_not_installed():
    try:
        import cudnn as there  # noqa: F401
    except ImportError:
        cudnn.library.cache_clear()
        assert cudnn.library() is None


def test_captured(frontend, card):
    """It takes the stream that captures, and memory from the pool there is."""
    pool = card.cuda.MemoryPool()
    stream = card.cuda.Stream(non_blocking=True)
    x, w = card.zeros((2, 4, 5, 5), "float32"), card.zeros((6, 4, 3, 3), "float32")
    with stream, card.cuda.using_allocator(pool.malloc):
        conv.conv2d(x, w)
        taken = pool.total_bytes()
    assert taken > 0 and frontend.streams[-1] == (77, stream.ptr)

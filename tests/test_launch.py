"""Launching: includes, arguments, counts; what common.cuh promises; the ways through the elementwise twins."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tolerance import assert_close, tolerance

from gradflow import backend
from gradflow.cuda import launch as launching
from gradflow.cuda import pointwise
from gradflow.cuda.launch import aligned, blocks, contiguous, ctype, launch
from gradflow.op import table

pytestmark = pytest.mark.cuda


# --- sources ------------------------------------------------------------------------------------------


def test_sources_need_no_headers_of_their_own():
    for path in launching.folder().glob("*.cu"):
        text = launching.source(path.name)
        assert '#include "' not in text
        assert text.count("using index_t =") == 1, f"{path.name}: common.cuh comes once"


def test_splicing(tmp_path, kernels):
    (kernels / "a.cu").write_text('#include "b.cuh"\n#include "c.cuh"\nint a;\n')
    (kernels / "b.cuh").write_text('#pragma once\n  #  include "c.cuh"\nint b;\n')
    (kernels / "c.cuh").write_text("#pragma once\n#include <cuda_fp16.h>\nint c;\n")
    text = launching.source("a.cu")
    assert [line for line in text.splitlines() if line.startswith("int")] == ["int c;", "int b;", "int a;"]
    assert "#include <cuda_fp16.h>" in text
    place, seen = ("", 0), {}
    for line in text.splitlines():  # what a compiler says of each line is where a reader finds it
        if m := re.match(r'#line (\d+) "(.*)"', line):
            place = m[2], int(m[1])
        else:
            seen[line] = place
            place = place[0], place[1] + 1
    assert (seen["int a;"], seen["int b;"], seen["int c;"]) == (("a.cu", 3), ("b.cuh", 3), ("c.cuh", 3))


def test_missing_source(card):
    with pytest.raises(FileNotFoundError, match=r"wanted the kernel source nowhere\.cu"):
        launch("nowhere", "f", 1, 32)


# --- arguments ------------------------------------------------------------------------------------------


def test_scalars(card, kernels):
    y = card.empty(5, np.float64)
    launch("probe", "scalars", 1, 1, y, 2**40 + 1, 0.1, np.float64(0.1), True, None)
    assert card.asnumpy(y).tolist() == [2**40 + 1, float(np.float32(0.1)), 0.1, 1, 1]


def test_only_contiguous_arrays(card, kernels):
    x = card.asarray(np.zeros((4, 4), np.float32))
    with pytest.raises(ValueError, match=r"copy<float>: wanted contiguous arrays, saw argument 0 of shape \(4, 4\)"):
        launch("probe", "copy<float>", 1, 32, x.T, x, 16)
    assert contiguous(x) is x
    assert contiguous(x.T).flags.c_contiguous
    assert aligned(x)
    assert not aligned(x, x[0, 1:])


def test_grid_beyond_the_limits(card, kernels):
    x = card.asarray(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="wanted a grid within"):
        launch("probe", "copy<float>", (1, 70000), 32, x, x, 4)


def test_counts_and_empty_grids(card, kernels):
    x = card.asarray(np.arange(5, dtype=np.float32))
    y = card.empty(5, np.float32)
    before = launching.count
    launch("probe", "copy<float>", 0, 32, x, y, 5)
    launch("probe", "copy<float>", (3, 0), 32, x, y, 5)
    assert launching.count == before
    launch("probe", "copy<float>", (2,), (32, 1), x, y, 5)
    assert launching.count == before + 1
    assert card.asnumpy(y).tolist() == [0, 1, 2, 3, 4]


def test_much_shared_memory(card, kernels):
    n = 512
    x = card.asarray(np.arange(n, dtype=np.int32))
    y = card.empty(n, np.int32)
    for _ in range(2):
        launch("probe", "reverse", 1, n, x, y, shared=n * 64 * 4)  # 128 KB: more than a kernel gets unasked
    assert card.asnumpy(y).tolist() == list(range(n))[::-1]


def test_names():
    names = [ctype(np.dtype(t)) for t in ("float32", "float64", "float16", "int64", "int32", "bool", "uint8")]
    assert names == ["float", "double", "__half", "long long", "int", "bool", "unsigned char"]
    with pytest.raises(TypeError, match="saw complex64"):
        ctype(np.dtype("complex64"))
    assert [blocks(n, 4) for n in (0, 1, 4, 5, 2**40)] == [0, 1, 1, 2, 2**38]


# --- common.cuh -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [32, 96, (8, 8, 4), 1024])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_block_reductions(dtype, block, card, kernels):
    n = int(np.prod(block))
    x = (np.random.default_rng(n).integers(-40, -1, n) / 8).astype(dtype)  # all negative: zero would show as a maximum
    y = card.empty((n, 5), dtype)
    launch("probe", f"reductions<{ctype(x.dtype)}>", 1, block, card.asarray(x), y)
    y, wide = card.asnumpy(y), x.astype(np.float64)
    assert_close(y[:, 0], np.full(n, wide.sum()).astype(dtype))
    assert (y[:, 1] == x.max()).all()
    assert (y[:, 2] == x.min()).all()
    assert_close(y[:, 3], np.full(n, n * float(x.max())).astype(dtype))
    assert_close(y[:, 4], np.repeat(wide.reshape(-1, 32).sum(1), 32).astype(dtype))


def test_reductions_pass_nan_on(card, kernels):
    for at in (0, 17, 63):
        x = np.arange(64, dtype=np.float32)
        x[at] = np.nan
        y = card.empty((64, 5), np.float32)
        launch("probe", "reductions<float>", 1, 64, card.asarray(x), y)
        assert np.isnan(card.asnumpy(y)[:, :4]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_conversions_and_packs(dtype, card, kernels):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    dtype = backend.bfloat16() if dtype == "bfloat16" else np.dtype(dtype)
    x = np.array([0, -0.0, 1, -2.5, 1e-7, 6e4, np.inf, -np.inf, np.nan, 0.1] * 16).astype(dtype)
    for kernel, *rest in (("copy", x.size), ("packs",)):
        y = card.empty(x.shape, dtype)
        launch("probe", f"{kernel}<{ctype(dtype)}>", 1, x.nbytes // 16, card.asarray(x), y, *rest)
        np.testing.assert_array_equal(card.asnumpy(y).astype(np.float64), x.astype(np.float64))


# --- kernels broken on purpose ----------------------------------------------------------------------------


@pytest.mark.usefixtures("stand_in")
def test_a_stray_write_is_caught(card, kernels):
    with pytest.raises(card.CardError, match="past_the_end"):
        launch("probe", "past_the_end", 1, 32, card.empty(8, np.float32), 8)


@pytest.mark.usefixtures("stand_in")
def test_an_unwritten_output_is_caught(card, kernels):
    y = card.empty(8, np.float32)
    launch("probe", "leaves_a_gap", 1, 8, y, 8)
    assert np.isnan(card.asnumpy(y)).tolist() == [False] * 7 + [True]


def test_text_that_does_not_compile(card, kernels):
    (kernels / "wrong.cu").write_text('#include "common.cuh"\n__global__ void f() { nonsense; }\n')
    with pytest.raises(Exception, match="nonsense"):
        launch("wrong", "f", 1, 1)


def test_a_wrong_formula_is_caught(card, kernels):
    g, y = (np.linspace(-1, 1, 9, dtype=np.float32) for _ in range(2))
    twin, definition = pointwise.tanh_backward, table["tanh_backward"].definition
    assert_close(card.asnumpy(twin(card.asarray(g), card.asarray(y))), definition(g, y))
    text = (kernels / "pointwise.cuh").read_text()
    (kernels / "pointwise.cuh").write_text(text.replace("return g - g * y * y;", "return g + g * y * y;"))
    launching.forget()
    with pytest.raises(AssertionError):
        assert_close(card.asnumpy(twin(card.asarray(g), card.asarray(y))), definition(g, y))


# --- elementwise twins ------------------------------------------------------------------------------------


def lines():
    """(name, arguments) of every function of pointwise.cuh."""
    text = (launching.folder() / "pointwise.cuh").read_text()
    found = re.findall(r"^FN \w+ (\w+)\(([^)]*)\)", text, re.MULTILINE)
    return {name: [a.split()[-1] for a in arguments.split(",")] for name, arguments in found}


@pytest.mark.parametrize("entry", [e for e in table.values() if e.place == "pointwise"], ids=lambda e: e.name)
def test_every_row_has_its_line(entry):
    for function in pointwise.CHOICES.get(entry.name, {"": entry.name}).values():
        assert lines().get(function) == list(entry.inputs[: len(entry.inputs) - (entry.name in pointwise.CHOICES)])
    assert callable(entry.kernel.twin)


def test_no_line_without_a_row():
    with pytest.raises(AttributeError, match="no line for 'nonsense'"):
        _ = pointwise.nonsense
    assert not hasattr(pointwise, "__path__")


def check(name, card, *args):
    """The twin of a row on the card against its definition; what it gave."""
    before = launching.count
    y = getattr(pointwise, name)(*[card.asarray(a) if isinstance(a, np.ndarray) else a for a in args])
    assert y is not NotImplemented
    assert isinstance(y, card.ndarray)
    expected = np.asarray(table[name].definition(*args))
    assert launching.count == before + (expected.size > 0)
    assert y.dtype == expected.dtype
    assert_close(card.asnumpy(y), expected)
    return y


# one value, less than a pack, a pack, a remainder, several blocks with a remainder
@pytest.mark.parametrize("n", [0, 1, 3, 4, 7, 256, 5003])
def test_contiguous(n, card):
    r = np.random.default_rng(n)
    a, b = (r.standard_normal(n).astype(np.float32) for _ in range(2))
    check("mul", card, a, b)
    check("mul", card, a, 2.5)
    check("sub", card, 2, b)
    check("lt", card, a, b)
    check("leaky_relu", card, a, 0.1)
    check("mul", card, a.astype(np.float64), 0.1)
    check("elu", card, a.astype(np.float64), 0.1, 1.0, 1.0)


def test_shapes(card):
    r = np.random.default_rng(0)
    a, b = (r.standard_normal((6, 8)).astype(np.float32) for _ in range(2))
    check("add", card, a[0, 0, ...], b[0, 0, ...])  # 0-d
    check("add", card, a, b[0])  # broadcast
    check("add", card, a[:, :1], b[:1])
    check("add", card, a[::2], b[::2])  # strided
    check("add", card, a.T, b.T)
    check("add", card, a.T, b.reshape(8, 6))
    check("gelu", card, a[:, 1:5], "tanh")
    check("ge", card, a[:, ::3], 0.25)
    x = card.asarray(a)
    y = pointwise.add(x.T, card.asarray(b).T)
    assert y.flags.f_contiguous, "transposed inputs give a transposed result, without a copy"
    # slices that start off the 16-byte grid
    u, v = card.asarray(a.reshape(-1))[1:], card.asarray(b.reshape(-1))[:-1]
    assert_close(card.asnumpy(pointwise.add(u, v)), a.reshape(-1)[1:] + b.reshape(-1)[:-1])
    assert_close(card.asnumpy(pointwise.square(u[None])), a.reshape(1, -1)[:, 1:] ** 2)


def test_what_is_left_to_the_definition(card):
    x, i = card.asarray(np.ones(3, np.float32)), card.asarray(np.ones(3, np.int64))
    for args in [(i, i), (x, i), (x, x.astype(np.float64)), (x, np.float64(2)), (2.0, 3.0), (x, x > 0)]:
        assert pointwise.add(*args) is NotImplemented
    assert pointwise.gelu(x, "nonsense") is NotImplemented
    for name, args in [("add", (i, i)), ("gelu", (x, "none"))]:
        y = table[name].run(args)
        assert isinstance(y, card.ndarray)


def test_comparison_of_halves_with_a_number(card):
    x = np.array([0.1, 0.2, np.inf], np.float16)
    check("eq", card, x, 0.1)
    assert card.asnumpy(pointwise.eq(card.asarray(x), 0.1)).tolist() == [True, False, False]
    assert card.asnumpy(pointwise.eq(card.asarray(x), 70000.0)).tolist() == [False, False, True], "beyond float16"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_extremes(dtype, card):
    """Infinite, huge, tiny and missing values, against the definition in float64."""
    big = {"float16": 6e4, "float32": 3e38, "float64": 1e307}[dtype]
    x = np.array([0, -0.0, 1e-7, -1e-7, 30, -30, 88, -88, 500, -500, big, -big, np.inf, -np.inf, np.nan]).astype(dtype)
    relative, absolute = tolerance(dtype)

    def same(name, *args):
        wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args]
        y = getattr(pointwise, name)(*[card.asarray(a) if isinstance(a, np.ndarray) else a for a in args])
        expected = np.asarray(table[name].definition(*wide)).astype(y.dtype)
        np.testing.assert_allclose(card.asnumpy(y), expected, relative, absolute, err_msg=name)

    for name in (
        "sigmoid", "log_sigmoid", "tanh", "relu", "relu6", "silu", "mish", "hardtanh", "hardswish", "erf", "erfc",
        "sign", "floor", "round", "isnan", "isinf", "isfinite", "softplus", "gelu", "elu", "softshrink", "hardshrink",
        "logical_not",
    ):  # fmt: skip
        same(name, *table[name].bind(x))
    a, b = (v.reshape(-1) for v in np.meshgrid(x, x))
    for name in ("maximum", "minimum", "fmax", "fmin", "logaddexp", "eq", "le", "logical_xor"):
        same(name, a, b)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_remainders(card):
    """Every mix of signs, zeros and infinities, as Python's % and // have it."""
    v = np.array([0, -0.0, 1, -1, 2.5, -2.5, 7, -7, 0.1, np.inf, -np.inf, np.nan])
    a, b = (x.reshape(-1) for x in np.meshgrid(v, v))
    for name in ("remainder", "floor_divide", "fmod"):
        expected = table[name].definition(a, b)
        y = card.asnumpy(getattr(pointwise, name)(card.asarray(a), card.asarray(b)))
        np.testing.assert_allclose(y, expected, 1e-12, err_msg=name)
        assert (np.signbit(y) == np.signbit(expected))[~np.isnan(expected)].all(), name

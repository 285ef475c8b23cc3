"""cuBLASLt's plans: what its descriptors are told for each product, and what is left to others.

The library needs a card, so a stand-in for nvmath's bindings takes its place: it remembers and obeys what it is told.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from products import ACTIVATED, DTYPES, captured, placed
from tolerance import assert_close

import gradflow
from gradflow.cuda import cublaslt, gemm, precision

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def _precision():
    yield
    precision.set_float32_matmul_precision("highest")


class Library:
    """nvmath.bindings.cublasLt as far as it is used: descriptors that remember, and a product that obeys them.

    Names, numbers, argument orders and attribute sizes are nvmath-python 1.0's.
    """

    class _Enum(dict):
        __getattr__ = dict.__getitem__

    Epilogue = _Enum(DEFAULT=1, RELU=2, BIAS=4, RELU_BIAS=6, GELU=32, GELU_BIAS=36)
    MatmulDescAttribute = _Enum(TRANSA=3, TRANSB=4, EPILOGUE=7, BIAS_POINTER=8)
    MatrixLayoutAttribute = _Enum(BATCH_COUNT=5, STRIDED_BATCH_OFFSET=6)
    MatmulPreferenceAttribute = _Enum(
        MAX_WORKSPACE_BYTES=1, MIN_ALIGNMENT_A_BYTES=5, MIN_ALIGNMENT_B_BYTES=6, MIN_ALIGNMENT_C_BYTES=7, MIN_ALIGNMENT_D_BYTES=8
    )
    SIZES = {  # of the attributes that are set
        "desc": {3: "i4", 4: "i4", 7: "u4", 8: "i8"}, "layout": {5: "i4", 6: "i8"},
        "preference": {1: "u8", 5: "u4", 6: "u4", 7: "u4", 8: "u4"},
    }  # fmt: skip

    def __init__(self, card, knows=True):
        self.card, self.knows = card, knows
        self.held, self.plans, self.products, self.gone = {}, 0, [], []

    def _new(self, kind, **values):
        self.held[len(self.held) + 1000] = dict(kind=kind, **values)
        return len(self.held) + 999

    def _set(self, kind, descriptor, attribute, address, size):
        held = self.held[descriptor]
        dtype = np.dtype(self.SIZES[kind][attribute])
        assert held["kind"] == kind
        assert type(attribute) is int
        assert size == dtype.itemsize
        held[attribute] = np.frombuffer((ctypes.c_char * size).from_address(address), dtype)[0].item()

    def create(self):
        return 77

    def get_version(self):
        return 130002

    def matmul_desc_create(self, compute_type, scale_type):
        return self._new("desc", compute=compute_type, scale=scale_type)

    def matmul_desc_set_attribute(self, *args):
        self._set("desc", *args)

    def matrix_layout_create(self, type, rows, cols, ld):
        return self._new("layout", type=type, rows=rows, cols=cols, ld=ld)

    def matrix_layout_set_attribute(self, *args):
        self._set("layout", *args)

    def matmul_preference_create(self):
        return self._new("preference")

    def matmul_preference_set_attribute(self, *args):
        self._set("preference", *args)

    def matmul_preference_destroy(self, preference):
        self.gone.append(preference)

    matrix_layout_destroy = matmul_desc_destroy = matmul_preference_destroy

    class MatmulHeuristicResult:
        def __init__(self, size):
            self.held = np.zeros((size, 12), np.int64)
            self.ptr = self.held.ctypes.data

    def matmul_algo_get_heuristic(self, handle, desc, a, b, c, d, preference, asked, results, count):
        assert handle == 77
        assert asked == 1
        assert self.held[preference][1] == 32 << 20
        self.plans += 1
        ctypes.c_int32.from_address(count).value = int(self.knows)
        self.preference = self.held[preference]

    def matmul(self, handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, space, size, stream):
        cublas = self.card.cuda.cublas
        assert handle == 77
        assert size == 32 << 20
        assert c == d
        assert stream == self.card.cuda.get_current_stream().ptr
        how, layouts = dict(self.held[desc]), [self.held[x] for x in (a_layout, b_layout, d_layout)]
        self.products.append((how, layouts))

        def run():
            x, w, y = (
                cublas.matrix(p, of["type"], of["rows"], of["cols"], of["ld"], of.get(5, 1), of.get(6, 0))
                for p, of in zip((a, b, d), layouts, strict=True)
            )
            x, w = (v.swapaxes(1, 2) if how[t] else v for v, t in ((x, 3), (w, 4)))
            wide = np.float64 if y.dtype == np.float64 else np.float32
            z = np.matmul(x.astype(wide), w.astype(wide))
            if how[7] & 4:  # one number for each row
                z = z + cublas.matrix(how[8], layouts[2]["type"], layouts[2]["rows"], 1, layouts[2]["rows"], 1, 0).astype(wide)
            z = np.maximum(z, 0) if how[7] & 2 else np.vectorize(ACTIVATED["gelu_tanh"])(z) if how[7] & 32 else z
            y[...] = z

        capture = self.card.cuda.capturing()
        run() if capture is None else capture.add("cublasLt", run, [])


@pytest.fixture
def library(stand_in, card, monkeypatch):
    """cuBLASLt, as if it were installed."""
    cublaslt.forget()
    found = Library(card)
    monkeypatch.setattr(cublaslt, "_library", found)
    yield found
    cublaslt.forget()
    monkeypatch.setattr(cublaslt, "_library", False)


@pytest.mark.parametrize("kind", [kind for kind in DTYPES if kind != "float64"])  # no epilogues for doubles
@pytest.mark.parametrize("activation", [None, "relu", "gelu_tanh"])
def test_plans_of_cublaslt(card, library, kind, activation):
    dtype, draw = np.dtype(DTYPES[kind]), np.random.default_rng(11)
    gradflow.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    word = {None: 4, "relu": 6, "gelu_tanh": 36}[activation]
    for turns in ("nn", "nt", "tn", "tt"):
        for lead in ((), (3,)):
            a, b, bias = (draw.standard_normal(s).astype(dtype) for s in ((*lead, 4, 5), (*lead, 5, 6), (6,)))
            x, w = placed(card, a, dtype, turns[0] == "t"), placed(card, b, dtype, turns[1] == "t")
            plans = library.plans
            for v in (bias, bias[::-1]):
                y = gemm.product(x, w, None, card.asarray(v), activation)
                exact = a.astype("f8") @ b.astype("f8") + v.astype("f8")
                assert_close(card.asnumpy(y), np.vectorize(ACTIVATED[activation])(exact), dtype)
            assert library.plans == plans + 1  # one for both
            how, (left, right, out) = library.products[-1]
            assert (how["compute"], how["scale"], how[7]) == (77 if kind == "tf32" else 68, 0, word)
            assert (how[3], how[4]) == (turns[1] == "t", turns[0] == "t")
            assert (left["rows"], left["cols"], left["ld"]) == ((5, 6, 5) if turns[1] == "t" else (6, 5, 6))
            assert (right["rows"], right["cols"], right["ld"]) == ((4, 5, 4) if turns[0] == "t" else (5, 4, 5))
            assert (out["rows"], out["cols"], out["ld"]) == (6, 4, 6)
            assert {of["type"] for of in (left, right, out)} == {gemm.TYPES[dtype.name]}
            assert [of.get(5) for of in (left, right, out)] == [3 if lead else None] * 3
            assert [of.get(6) for of in (left, right, out)] == ([30, 20, 24] if lead else [None] * 3)
            assert all(library.preference[i] <= 256 for i in (5, 6, 7, 8))


def test_cublaslt_serves_captures(card, library):
    draw = np.random.default_rng(12)
    for dtype in ("f4", "f8", "f2"):
        a, b = (draw.standard_normal(s).astype(dtype) for s in ((4, 5), (5, 6)))
        x, w = card.asarray(a), card.asarray(b)
        with card.launches() as work:
            y = captured(card, lambda x=x, w=w: gemm.product(x, w))
        assert not work.of("kernel")
        assert_close(card.asnumpy(y), a.astype("f8") @ b.astype("f8"), dtype)
    how, _ = library.products[1]
    assert (how["compute"], how["scale"], how[7]) == (70, 1, 1)
    assert len(cublaslt._workspaces) == 3  # one to a stream


def test_what_cublaslt_does_not_do_is_done_here(card, library):
    draw = np.random.default_rng(13)
    a, b, bias = (draw.standard_normal(s).astype("f4") for s in ((4, 5), (5, 6), (6,)))
    for activation in ("gelu", "silu", "sigmoid", "tanh"):
        y = gemm.product(card.asarray(a), card.asarray(b), None, card.asarray(bias), activation)
        assert_close(card.asnumpy(y), np.vectorize(ACTIVATED[activation])(a.astype("f8") @ b + bias), "float32")
    assert not library.products
    library.knows = False
    for _ in range(2):
        y = gemm.product(card.asarray(a), card.asarray(b), None, card.asarray(bias), "relu")
        assert_close(card.asnumpy(y), np.maximum(a.astype("f8") @ b + bias, 0), "float32")
    assert library.plans == 1  # it is not asked again
    assert not library.products
    cublaslt.forget()
    assert sorted(set(library.gone)) == sorted(library.held)  # every descriptor was given back


def test_cublaslt_is_found_or_not(card, monkeypatch):
    monkeypatch.setattr(cublaslt, "_library", None)
    monkeypatch.setenv("GRADFLOW_CUBLASLT", "0")
    assert cublaslt.library() is None
    assert cublaslt._library is False

"""Every CUDA twin against its NumPy definition, on the card or on the stand-in that runs the real .cu text."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import as_dtype, cases_of, dtype_named
from tolerance import assert_close

from gradflow import backend, op
from gradflow.kernel import kernels

pytestmark = pytest.mark.cuda
TWINS = [k for k in kernels.values() if k.cases]
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def move(v, module):
    if isinstance(v, np.ndarray):
        return module.asarray(v)
    if isinstance(v, (list, tuple)) and any(isinstance(u, np.ndarray) for u in v):
        return type(v)(move(u, module) for u in v)
    return v


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", TWINS, ids=lambda k: k.name)
def test_twin_agrees_with_definition(kernel, dtype, card):
    low = dtype_named(dtype)
    high = np.dtype("float64" if dtype == "float64" else "float32" if low.itemsize == 2 else "float64")
    taken = 0
    for case in cases_of(kernel):
        args, kwargs = as_dtype(list(case.args), low), as_dtype(case.kwargs, low)
        names = kwargs.keys()
        full = op.table[kernel.name].bind(*args, **kwargs) if kernel.name in op.table else (*args, *kwargs.values())
        del names
        y = kernel.twin(*[move(a, card) for a in full])
        if y is NotImplemented:
            continue
        taken += 1
        # The definition in a wider dtype on the same (rounded) inputs is what a kernel that accumulates well gives.
        wide = kernel.definition(
            *as_dtype(
                [a.astype(high) if isinstance(a, np.ndarray) and backend.is_floating(a.dtype) else a for a in full],
                high,
            )
        )
        for a, b in zip(y if isinstance(y, tuple) else (y,), wide if isinstance(wide, tuple) else (wide,), strict=True):
            if a is None or b is None:
                assert a is None and b is None
                continue
            a = card.asnumpy(a)
            assert_close(a, np.asarray(b).astype(a.dtype), what=str(case))
    if dtype == "float32":
        assert taken, f"the twin of {kernel.name} takes none of its cases"


@pytest.mark.parametrize("entry", [e for e in op.table.values() if e.cases], ids=lambda e: e.name)
def test_definition_runs_on_the_card(entry, card):
    """Ops without a twin, and the cases that twins refuse, run their definitions on CuPy arrays."""
    for case in cases_of(entry)[:3]:
        args = entry.bind(*as_dtype(list(case.args), "float32"), **as_dtype(case.kwargs, "float32"))
        expected = entry.run(args)
        y = entry.run(tuple(move(a, card) for a in args))
        for a, b in zip(
            y if isinstance(y, tuple) else (y,), expected if isinstance(expected, tuple) else (expected,), strict=True
        ):
            if b is not None:
                assert isinstance(a, card.ndarray), f"{entry.name} gave {type(a)} for arrays on the card"
                assert_close(card.asnumpy(a), b, what=str(case))

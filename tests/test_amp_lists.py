"""autocast's lists against PyTorch's: every public operator on PyTorch's own samples, under the CPU's list and the card's.

PyTorch's card list is put in the place of its CPU list, from the names in its header, so that no card is needed.
"""

from __future__ import annotations

import itertools
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import gradflow as gf
from gradflow.amp import lists

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # PyTorch's table imports it

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import samples
    from torch.utils._pytree import tree_leaves, tree_map

    INFOS = samples.infos()

# What gradflow gives otherwise, under either list: an op here that is several in PyTorch, of which the last is a product.
OTHERWISE = {
    "linalg.pinv": "computed whole in float32",
    "pinverse": "computed whole in float32",
    "svd_lowrank": "computed whole in float32",
    "pca_lowrank": "computed whole in float32",
    "nn.functional.linear_cross_entropy": "float32 for targets that are probabilities too",
    "tensordot": "a product also where a size of one makes PyTorch multiply and sum",
    "nn.functional.binary_cross_entropy": "refused for out= too",
}
# Differences that are not autocast's: tests/differences.py has them.
BESIDE = {"as_strided", "addbmm", "chalf", "complex", "view_as_complex", "matrix_exp"}


class Pair(samples.Pair):
    """Arguments for both libraries, in half types too."""

    def __call__(self, v):
        y = super().__call__(v)
        if isinstance(v, torch.Tensor) and v.dtype == torch.bfloat16 and y.dtype != gf.bfloat16:
            y = y.to(gf.bfloat16)
            self.made[id(v)] = (v, y)
        return y


def dtypes(y):
    return [str(v.dtype).removeprefix("torch.") for v in samples.flat(y) if isinstance(v, (torch.Tensor, gf.Tensor))]


def narrowed(v, dtype):
    taken = isinstance(v, torch.Tensor) and v.is_floating_point() and v.dtype != torch.float64
    return v.to(dtype) if taken else v


def wrong(info, lower, most):
    """Where gradflow's dtypes are not PyTorch's."""
    found = []
    ours_lower = gf.bfloat16 if lower == torch.bfloat16 else gf.float16
    for dtype in (torch.float32, lower):
        forced = dtype == lower and not info.supports_dtype(dtype, "cpu")
        made = info.sample_inputs("cpu", torch.float32 if forced else dtype, requires_grad=False)
        for sample in itertools.islice(made, most):
            if forced:
                sample.input, sample.args, sample.kwargs = (
                    tree_map(lambda v: narrowed(v, lower), part) for part in (sample.input, sample.args, sample.kwargs)
                )
            for name, ours, theirs in samples.forms(info):
                pair = Pair()
                try:
                    x, args, kwargs = pair(sample.input), pair(sample.args), pair(sample.kwargs)
                except samples.Unfit:
                    continue
                first = sample.input
                if name.endswith("_") and not name.endswith("__"):
                    if not isinstance(first, torch.Tensor):
                        continue
                    first, x = first.clone(), x.clone()
                try:
                    with torch.autocast("cpu", lower):
                        y = theirs(first, *sample.args, **sample.kwargs)
                except Exception:  # noqa: BLE001 (what PyTorch does not compute is not compared)
                    continue
                try:
                    with gf.autocast("cpu", ours_lower):
                        z = ours(x, *args, **kwargs)
                except Exception as e:  # noqa: BLE001
                    if not forced:  # halves of matrices that only an empty one may be of
                        found.append(f"{name} of {dtype}: {type(e).__name__}: {e}")
                    continue
                if dtypes(y) != dtypes(z):
                    found.append(f"{name} of {dtype}: {dtypes(z)}, PyTorch {dtypes(y)}")
    return found


def check(names, lower):
    """All operators; in a thread, as PyTorch's table keeps the stack of every sample, and pytest's is deep."""
    with ThreadPoolExecutor(1) as pool:
        bad = pool.submit(differences, names, lower).result()
    assert not bad, "\n".join(bad)


def differences(names, lower):
    known, bad = OTHERWISE.keys() | BESIDE, []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name in names:
            if INFOS[name].name not in known:
                bad += wrong(INFOS[name], lower, 3)
    return bad


def test_the_list_of_the_cpu():
    check(INFOS, torch.bfloat16)


# --- the card's list ----------------------------------------------------------------------------------


def names_of(header, macro):
    body = header.split(f"#define {macro}(_)")[1].split("\n\n")[0]
    return [f"aten::{a}.{b}" if b else f"aten::{a}" for a, b in re.findall(r"_\((\w+)(?:,\s*(\w+))?\)", body)]


def overload(name):
    base, _, which = name.removeprefix("aten::").partition(".")
    return getattr(getattr(torch.ops.aten, base), which or "default")


def eligible(v):
    return isinstance(v, torch.Tensor) and v.is_floating_point() and v.dtype != torch.float64


def casting(name, kind, lower):
    """What autocast does with an operator of a list."""
    op = overload(name)
    taken = [a.name for a in op._schema.arguments]

    def dtype_given(args, kwargs):
        i = taken.index("dtype") if "dtype" in taken else len(args)
        return kwargs.get("dtype") is not None or (len(args) > i and args[i] is not None)

    def run(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            if kind == "sum":
                if not dtype_given(args, kwargs):
                    args = (narrowed(args[0], torch.float32), *args[1:])
                return op(*args, **kwargs)
            to = torch.float32 if kind == "float32" else lower
            if kind == "widest" and any(eligible(v) and v.dtype == torch.float32 for v in tree_leaves((args, kwargs))):
                to = torch.float32
            args, kwargs = tree_map(lambda v: narrowed(v, to), (args, kwargs))
            return op(*args, **kwargs)

    return run


@pytest.fixture
def card_list(monkeypatch):
    """Both libraries with the card's list on the CPU."""
    path = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
    if not path.exists():
        pytest.skip("PyTorch without its headers")
    header, lower = path.read_text(), torch.float16
    library, put = torch.library.Library("aten", "IMPL", "AutocastCPU"), set()
    kinds = {"LOWER_PRECISION_FP": "lower", "FP32": "float32", "FP32_SET_OPT_DTYPE": "sum", "PROMOTE": "widest"}
    listed = [(n, kind) for macro, kind in kinds.items() for n in names_of(header, f"AT_FORALL_{macro}")]
    listed += [("aten::norm.Scalar", "sum"), ("aten::norm.ScalarOpt_dim", "sum")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, kind in listed:
            if torch._C._dispatch_has_kernel(name):
                library.impl(name.removeprefix("aten::"), casting(name, kind, lower), "AutocastCPU", allow_override=True)
                put.add(name)
        for name in torch._C._dispatch_get_all_op_names():
            listed = torch._C._dispatch_has_kernel_for_dispatch_key(name, "AutocastCPU")
            if listed and name.startswith("aten") and name not in put:
                fall = torch.library.fallthrough_kernel
                library.impl(name.removeprefix("aten::"), fall, "AutocastCPU", allow_override=True)
    with gf.autocast("cpu"):  # so that every function that is on a list asks
        pass
    monkeypatch.setitem(lists.kinds, "cpu", lists.kinds["cuda"])
    monkeypatch.setitem(lists.only, "cpu", lists.only["cuda"])
    for path in lists.functions:
        by = dict(lists.functions[path])
        monkeypatch.setitem(lists.functions, path, {d: by["cuda"] for d in by and ("cpu", "cuda") if "cuda" in by})
    yield lower
    library._destroy()


def test_the_list_of_the_card(card_list):
    check(INFOS, card_list)

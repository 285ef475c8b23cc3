"""PyTorch's own samples of its operators (its OpInfo table), each run beside gradflow: values, dtypes, gradients twice.

`python tests/samples.py NAME...` prints how the named operators, or all, fare; tests/test_samples.py asserts it.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
from tolerance import assert_close

import gradflow as gf

os.environ.setdefault("PYTORCH_TEST_WITH_SLOW", "0")
DTYPES = ["float64", "complex128", "float32", "int64", "uint8", "bool"]

# Parts of the table that are not PyTorch's public functions, or are its compiled or sparse back ends.
OTHERS = (
    "torch.", "_", "jiterator", "sparse.", "to_sparse", "bmm.triton_optimized", "slice", "hash_tensor",
    "max_pool2d_with_indices_backward",
)  # fmt: skip

# What draws random numbers, or memory that nothing was written to: shapes and dtypes are compared.
RANDOM = """
    bernoulli multinomial normal normal.in_place normal.number_mean rand randn randint rand_like randn_like randint_like uniform
    exponential cauchy geometric log_normal nn.functional.dropout nn.functional.dropout1d nn.functional.dropout2d
    nn.functional.dropout3d nn.functional.alpha_dropout nn.functional.feature_alpha_dropout.with_train nn.functional.rrelu
    randperm empty empty_like empty_strided empty_permuted new_empty new_empty_strided nn.functional.fractional_max_pool2d
    nn.functional.fractional_max_pool3d nn.functional.multi_head_attention_forward resize_ resize_as_ svd_lowrank pca_lowrank
""".split()


# What PyTorch's table asks of a product a b^T, so that the matrix is of a known rank.
OF_FACTORS = ("svd_lowrank", "pca_lowrank", "linalg.pinv")


class Unfit(Exception):
    """A sample that gradflow is not asked about: another memory layout, a sparse tensor, a generator."""


def infos() -> dict[str, Any]:
    """The OpInfos of PyTorch's public operators by name, "div.floor_rounding" for a variant."""
    from torch.testing._internal.common_methods_invocations import op_db

    named = {f"{i.name}.{i.variant_test_name}" if i.variant_test_name else i.name: i for i in op_db}
    return {n: i for n, i in named.items() if n.startswith("__") or n == "slice_scatter" or not n.startswith(OTHERS)}


def find(path: str, root: Any) -> Any:
    """root.a.b of "a.b", or None."""
    for name in path.split("."):
        root = getattr(root, name, None)
    return root


def forms(info: Any) -> list[tuple[str, Any, Any]]:
    """(name, gradflow's, PyTorch's) of an operator: function, method, method that writes in place; none if it is missing."""
    found: list[tuple[str, Any, Any]] = []
    if isinstance(find(info.name, gf.Tensor), property):  # x.T
        return [(f"Tensor.{info.name}", lambda x: getattr(x, info.name), info.op)]
    if callable(find(info.name, gf)) and info.variant_test_name != "in_place":
        ours = find(info.name, gf)
        if info.name == "where":
            found.append((info.name, lambda x, condition, other: gf.where(condition, x, other), info.op))
        elif info.name == "nn.functional.embedding":
            found.append((info.name, lambda w, x, **options: ours(x, w, **options), info.op))
        elif info.name == "einsum":
            found.append((info.name, lambda xs, equation: gf.einsum(equation, *xs), info.op))
        elif info.variant_test_name == "grad_oriented":
            found.append((info.name, lambda *args, **options: ours(*args, **options)[:2], info.op))
        elif info.name in OF_FACTORS and info.op is not find(info.name, torch):
            found.append((info.name, lambda a, b, *args, **options: ours(a @ b.mT, *args, **options), info.op))
        else:
            found.append((info.name, ours, info.op))
    if "." not in info.name:
        both = [n for n in (info.name, f"{info.name}_") if callable(find(n, torch.Tensor)) and callable(find(n, gf.Tensor))]
        found += [(f"Tensor.{n}", find(n, gf.Tensor), find(n, torch.Tensor)) for n in both]
    return found


class Pair:
    """The arguments of one call for both libraries; a tensor that occurs twice is one tensor in both."""

    def __init__(self) -> None:
        self.made: dict[int, tuple[Any, Any]] = {}

    def __call__(self, v: Any) -> Any:
        if isinstance(v, torch.Tensor):
            if id(v) not in self.made:
                if v.layout != torch.strided:
                    raise Unfit(v.layout)
                if v.is_conj() or v.is_neg():  # whose memory holds other values
                    t = gf.from_numpy(numpy(v).copy())
                else:  # the same view of a copy of the same memory, as as_strided looks beyond its tensor
                    memory = numpy(torch.empty(0, dtype=v.dtype).set_(v.detach().untyped_storage())).copy()
                    with gf.no_grad():
                        t = gf.from_numpy(memory).as_strided(tuple(v.shape), v.stride(), v.storage_offset())
                self.made[id(v)] = (v, t.requires_grad_() if v.requires_grad else t)
            return self.made[id(v)][1]
        if isinstance(v, torch.dtype):
            return find(str(v).removeprefix("torch."), gf)
        if isinstance(v, torch.device):
            return str(v)
        if isinstance(v, (torch.layout, torch.memory_format)):
            return find(str(v).removeprefix("torch."), gf)
        if isinstance(v, torch.Generator):
            raise Unfit("a generator")
        if isinstance(v, torch.nn.Module):
            return find(type(v).__name__, gf.nn)()
        if callable(v) and hasattr(torch.nn.functional, getattr(v, "__name__", "")):
            return find(v.__name__, gf.nn.functional)
        if isinstance(v, tuple) and hasattr(v, "_fields"):
            return type(v)(*map(self, v))
        if isinstance(v, (list, tuple)):
            return (tuple if isinstance(v, torch.Size) else type(v))(map(self, v))
        return {k: self(u) for k, u in v.items()} if isinstance(v, dict) else v

    def leaves(self) -> tuple[list[Any], list[Any]]:
        """gradflow's and PyTorch's tensors that require a gradient."""
        wanted = [(b, a) for a, b in self.made.values() if a.requires_grad]
        return [b for b, _ in wanted], [a for _, a in wanted]


def flat(y: Any) -> list[Any]:
    """The values in an output, in order."""
    return [v for part in y for v in flat(part)] if isinstance(y, (tuple, list)) else [y]


def compare(ours: Any, theirs: Any, what: str, scale: float = 1, values: bool = True) -> None:
    """Equal dtypes, shapes and values."""
    if not isinstance(theirs, torch.Tensor):
        theirs = find(str(theirs).removeprefix("torch."), gf) if isinstance(theirs, torch.dtype) else theirs
        assert ours == theirs or (ours != ours and theirs != theirs), f"{what}: {ours!r}, PyTorch {theirs!r}"
        return
    assert isinstance(ours, gf.Tensor), f"{what}: {type(ours).__name__} where PyTorch has a tensor"
    a, b = ours.detach().numpy(), numpy(theirs)
    assert str(a.dtype) == str(theirs.dtype).removeprefix("torch."), f"{what}: {a.dtype}, PyTorch {theirs.dtype}"
    if values:
        assert_close(a, b, scale=scale, what=what)
    else:
        assert a.shape == b.shape, f"{what}: shape {a.shape}, PyTorch {b.shape}"


def numpy(t: Any) -> np.ndarray:
    """The values of a PyTorch tensor; bfloat16 as float32, as NumPy has no such dtype."""
    t = t.detach().resolve_conj().resolve_neg()
    return (t.float() if t.dtype == torch.bfloat16 else t).numpy(force=True)


def gradients(outputs: list[Any], leaves: list[Any], weights: list[Any], lib: Any) -> list[Any]:
    """The gradients of sum Re(w* y) by the leaves, differentiable."""
    return list(lib.autograd.grad(outputs, leaves, weights, allow_unused=True, create_graph=True))


def zero(g: Any) -> bool:
    """Whether a gradient says that nothing depends."""
    return g is None or not bool((g != 0).any())


def check(form: tuple[str, Any, Any], sample: Any, differentiate: bool, twice: bool, values: bool) -> None:
    """AssertionError if gradflow's answer to one sample is not PyTorch's."""
    name, ours, theirs = form
    pair = Pair()
    x, args, kwargs = pair(sample.input), pair(sample.args), pair(sample.kwargs)
    first = sample.input
    if name.endswith("_") and not name.endswith("__"):
        if not isinstance(first, torch.Tensor):
            raise Unfit("no tensor to write into")
        first, x = first.clone(), x.clone()
    wrong = None
    try:
        y = theirs(first, *sample.args, **sample.kwargs)
    except Exception as e:  # noqa: BLE001 (whatever PyTorch refuses with)
        wrong = e
    try:
        z = ours(x, *args, **kwargs)
    except Exception as e:
        if wrong is None:
            raise AssertionError(f"{name} raises {type(e).__name__}: {e}") from e
        return
    if wrong is not None:
        raise AssertionError(f"{name} takes what PyTorch refuses: {wrong}")
    if sample.output_process_fn_grad is not None and not callable(getattr(z, "item", None)):
        with contextlib.suppress(Exception):  # eigenvectors are compared as far as they are determined
            y, z = sample.output_process_fn_grad(y), sample.output_process_fn_grad(z)
    ys, zs = flat(y), flat(z)
    assert len(ys) == len(zs), f"{name}: {len(zs)} outputs, PyTorch {len(ys)}"
    for a, b in zip(zs, ys, strict=True):
        compare(a, b, name, values=values)
    if not (differentiate and values):
        return
    tracked = [k for k, b in enumerate(ys) if isinstance(b, torch.Tensor) and b.requires_grad]
    assert tracked == [k for k, a in enumerate(zs) if isinstance(a, gf.Tensor) and a.requires_grad], f"{name}: requires_grad"
    rng = np.random.default_rng(0)

    mine, others = pair.leaves()
    ys, zs = [ys[k] for k in tracked], [zs[k] for k in tracked]
    for order in ("gradient", "second gradient")[: 1 + twice]:
        if not ys or not others:
            return
        ws = weights_of(ys, rng)
        try:
            right = gradients(ys, others, ws, torch)
        except RuntimeError:  # PyTorch does not differentiate this
            return
        left = gradients(zs, mine, [gf.from_numpy(numpy(w).copy()).to(z.dtype) for w, z in zip(ws, zs, strict=True)], gf)
        for a, b in zip(left, right, strict=True):
            if zero(a) and zero(b):
                continue
            assert a is not None and b is not None, f"{name}: {order} is {a}, PyTorch {b}"
            compare(a, b, f"{name}, {order}", scale=10 if order == "gradient" else 100)
        both = [(a, b) for a, b in zip(left, right, strict=True) if b is not None and b.requires_grad]
        flat_ones = [b for a, b in both if a is None or not a.requires_grad]  # gradflow says: nothing depends
        if flat_ones:
            try:
                ws = weights_of(flat_ones, rng)
                curved = torch.autograd.grad(flat_ones, others, ws, allow_unused=True, retain_graph=True)
            except RuntimeError:
                return
            # of x / x and its like PyTorch differentiates to roundings of 0
            none = [zero(c) or c.abs().max() < 1e4 * torch.finfo(c.dtype).eps for c in curved]
            assert all(none), f"{name}: the {order} is not differentiable"
        both = [(a, b) for a, b in both if a is not None and a.requires_grad]
        zs, ys = [a for a, _ in both], [b for _, b in both]


def weights_of(tensors: list[Any], rng: np.random.Generator) -> list[Any]:
    """Random PyTorch tensors of the shapes and dtypes of `tensors`."""

    def draw(t: Any) -> Any:
        w = rng.standard_normal(tuple(t.shape))
        return torch.from_numpy(np.asarray(w + 1j * rng.standard_normal(w.shape) if t.is_complex() else w)).to(t.dtype)

    return list(map(draw, tensors))


def failures(info: Any, dtypes: list[str] = DTYPES, most: int = 8) -> list[str]:
    """What is wrong with an operator: a line for each form and dtype that fails; at most `most` samples of each are run."""
    found = forms(info)
    lines = [] if found else ["missing"]
    label = f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name
    for dtype in dtypes:
        kind = getattr(torch, dtype)
        if kind not in info.dtypes:
            continue
        differentiate = (kind.is_floating_point or kind.is_complex) and info.supports_autograd
        samples = list(info.sample_inputs("cpu", kind, requires_grad=differentiate))
        if len(samples) > most:
            samples = random.Random(0).sample(samples, most)
        for form in found:
            for sample in samples:
                torch.manual_seed(0)
                try:
                    check(form, sample, differentiate, dtype in ("float64", "complex128"), label not in RANDOM)
                except Unfit:
                    continue
                except Exception as e:  # noqa: BLE001 (a line of the report)
                    text = " ".join(str(e).split())[:200]
                    lines.append(f"{dtype}: {text if isinstance(e, AssertionError) else f'{form[0]} {e!r:.200}'}")
                    break
    return lines


def main(names: list[str]) -> None:
    """Print the operators that are not whole, and how many are."""
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    table = {n: i for n, i in infos().items() if not names or n in names or i.name in names}
    whole = 0
    for name, info in table.items():
        lines = failures(info)
        whole += not lines
        for line in lines:
            print(f"{name:40} {line}", flush=True)
    print(f"{whole} of {len(table)} operators are whole")


if __name__ == "__main__":
    main(sys.argv[1:])

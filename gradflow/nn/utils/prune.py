"""Pruning: a mask on a parameter, worked into the weight by a hook before forward.

A pruned parameter is <name>_orig, its mask the buffer <name>_mask, and <name> their product. Pruning again prunes what is
left. prune.remove makes the product the parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ... import backend
from ...op import wrap
from ...ops import random
from ..module import Module


def _count(amount: float, size: int) -> int:
    """How many of `size` an amount is: a number of them, or a share in [0, 1]."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"prune: wanted an amount that is a number, saw {type(amount).__name__}")
    if (isinstance(amount, int) and amount < 0) or (isinstance(amount, float) and not 0 <= amount <= 1):
        raise ValueError(f"prune: wanted an amount that is a share in [0, 1] or an int >= 0, saw {amount}")
    if isinstance(amount, int) and amount > size:
        raise ValueError(f"prune: wanted an amount of at most {size} parameters, saw {amount}")
    return amount if isinstance(amount, int) else round(amount * size)


def _checked(amount: float) -> float:
    _count(amount if isinstance(amount, float) else min(amount, 0), 0)
    return amount


def _like(mask: Any, values: np.ndarray) -> Any:
    """A mask of values on the device of another, of its dtype."""
    return wrap(backend.to_device(values.astype(mask.array.dtype), mask.device))


def _numpy(t: Any) -> np.ndarray:
    """A copy of a tensor's values on the CPU, in float64 where they are floating."""
    array = backend.asnumpy(t.array)
    return array.astype(np.float64) if backend.is_floating(array.dtype) else array.copy()


class BasePruningMethod:
    """A way to prune. A subclass defines compute_mask(t, default_mask) and says what of a pruned tensor it looks at.

    PRUNING_TYPE   'unstructured': the elements that are left; 'structured': the channels along self.dim; 'global': all
    """

    PRUNING_TYPE = "unstructured"
    _tensor_name: str

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """A mask of ones and zeros, of the shape of t, that is zero where default_mask is."""
        raise NotImplementedError(f"{type(self).__name__}: a pruning method defines compute_mask")

    def apply_mask(self, module: Module) -> Any:
        """The parameter times its mask."""
        mask = getattr(module, f"{self._tensor_name}_mask")
        return mask.to(getattr(module, f"{self._tensor_name}_orig").dtype) * getattr(
            module, f"{self._tensor_name}_orig"
        )

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @classmethod
    def apply(cls, module: Any, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any) -> Any:
        """Prune a parameter of a module; give the hook that keeps it pruned."""
        method: Any = cls(*args, **kwargs)
        method._tensor_name = name
        weight = getattr(module, name)  # as pruned so far
        handle, old = _hook(module, name)
        if old is not None:
            container = old if isinstance(old, PruningContainer) else PruningContainer(old)
            container.add_pruning_method(method)
            handle.remove()
            method = container
        else:
            p = module._parameters[name]
            module.register_parameter(f"{name}_orig", p)
            del module._parameters[name]
            xp = backend.namespace(p.array)
            module.register_buffer(f"{name}_mask", wrap(xp.ones(p.array.shape, p.array.dtype)))
        scores = weight if importance_scores is None else importance_scores
        if tuple(scores.shape) != tuple(weight.shape):
            raise AssertionError(f"prune: wanted scores of shape {tuple(weight.shape)}, saw {tuple(scores.shape)}")
        mask = method.compute_mask(scores.detach(), getattr(module, f"{name}_mask"))
        module._buffers[f"{name}_mask"] = mask
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """t times the mask that the method computes for it; nothing is registered."""
        scores = t if importance_scores is None else importance_scores
        if tuple(scores.shape) != tuple(t.shape):
            raise AssertionError(f"prune: wanted scores of shape {tuple(t.shape)}, saw {tuple(scores.shape)}")
        if default_mask is None:
            default_mask = wrap(backend.namespace(t.array).ones(t.array.shape, t.array.dtype))
        return t * self.compute_mask(scores.detach(), default_mask)

    def remove(self, module: Any) -> None:
        """Make the pruned weight the parameter."""
        name = self._tensor_name
        orig = module._parameters[f"{name}_orig"]
        orig.data = self.apply_mask(module).detach()
        for part in (name, f"{name}_orig", f"{name}_mask"):
            if part in module.__dict__ or any(part in module.__dict__[r] for r in ("_parameters", "_buffers")):
                delattr(module, part)
        module.register_parameter(name, orig)


def _hook(module: Module, name: str) -> tuple[Any, Any]:
    """(handle, method) of the pruning of a parameter, or (None, None)."""
    for handle, (hook, _) in module._forward_pre_hooks.items():  # type: ignore[attr-defined]
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return handle, hook
    return None, None


class PruningContainer(BasePruningMethod):
    """Pruning methods one after the other, each on what those before it left."""

    def __init__(self, *methods: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if methods:
            self._tensor_name = methods[0]._tensor_name
        for method in methods:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod) -> None:
        """Add a method. TypeError for anything else, ValueError for one of another tensor."""
        if not isinstance(method, BasePruningMethod):
            raise TypeError(f"prune: wanted a pruning method, saw {type(method).__name__}")
        if method._tensor_name != self._tensor_name:
            raise ValueError(f"prune: wanted a method on {self._tensor_name!r}, saw one on {method._tensor_name!r}")
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Any:
        return iter(self._pruning_methods)

    def __getitem__(self, i: Any) -> Any:
        return self._pruning_methods[i]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """What the last method leaves of what is left."""
        method = self._pruning_methods[-1]
        values, left = _numpy(t), _numpy(default_mask) != 0
        if method.PRUNING_TYPE == "unstructured":
            at: Any = left
        elif method.PRUNING_TYPE == "structured":
            dim = method.dim % values.ndim  # type: ignore[attr-defined]
            others = tuple(d for d in range(values.ndim) if d != dim)
            at = (*(slice(None),) * dim, left.any(others))
        elif method.PRUNING_TYPE == "global":
            at = ...
        else:
            raise ValueError(
                f"prune: wanted PRUNING_TYPE unstructured, structured or global, saw {method.PRUNING_TYPE!r}"
            )
        part = method.compute_mask(wrap(values[at].astype(t.array.dtype)), wrap(left[at].astype(t.array.dtype)))
        mask = left.astype(np.float64)
        mask[at] = _numpy(part)
        return _like(default_mask, mask)


class Identity(BasePruningMethod):
    """Prunes nothing: it makes the mask."""

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask that is there."""
        return default_mask


class RandomUnstructured(BasePruningMethod):
    """Prunes an amount of the elements, drawn from the default generator."""

    def __init__(self, amount: float) -> None:
        self.amount = _checked(amount)

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask with the drawn elements zero."""
        n = t.numel()
        mask = _numpy(default_mask).reshape(-1)
        mask[random.permutation(n, np, backend.default_generator)[: _count(self.amount, n)]] = 0
        return _like(default_mask, mask.reshape(t.array.shape))


class L1Unstructured(BasePruningMethod):
    """Prunes an amount of the elements, those of the smallest |x|."""

    def __init__(self, amount: float) -> None:
        self.amount = _checked(amount)

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask with the smallest elements zero."""
        mask = _numpy(default_mask).reshape(-1)
        order = np.argsort(abs(_numpy(t).reshape(-1)), kind="stable")
        mask[order[: _count(self.amount, t.numel())]] = 0
        return _like(default_mask, mask.reshape(t.array.shape))


class _Structured(BasePruningMethod):
    PRUNING_TYPE = "structured"
    amount: float
    dim: int

    def _channels(self, t: Any) -> tuple[int, int]:
        """(channels along dim, how many to prune)."""
        if t.dim() <= 1:
            raise ValueError(f"prune: wanted at least 2 dimensions to prune channels, saw shape {tuple(t.shape)}")
        if not -t.dim() <= self.dim < t.dim():
            raise IndexError(f"prune: wanted dim within {t.dim()} dimensions, saw {self.dim}")
        n = t.shape[self.dim]
        return n, _count(self.amount, n)

    def _without(self, default_mask: Any, channels: Any) -> Any:
        mask = _numpy(default_mask)
        mask[(*(slice(None),) * (self.dim % mask.ndim), channels)] = 0
        return _like(default_mask, mask)


class RandomStructured(_Structured):
    """Prunes an amount of the channels along dim, drawn from the default generator."""

    def __init__(self, amount: float, dim: int = -1) -> None:
        self.amount, self.dim = _checked(amount), dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask with the drawn channels zero."""
        n, k = self._channels(t)
        return self._without(default_mask, random.permutation(n, np, backend.default_generator)[:k])


class LnStructured(_Structured):
    """Prunes an amount of the channels along dim, those of the smallest norm of order n."""

    def __init__(self, amount: float, n: Any, dim: int = -1) -> None:
        self.amount, self.n, self.dim = _checked(amount), n, dim

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The mask with the smallest channels zero."""
        channels, k = self._channels(t)
        rows = np.moveaxis(_numpy(t), self.dim, 0).reshape(channels, -1)
        if self.n in ("fro", 2):
            sizes = np.sqrt((rows**2).sum(1))
        elif self.n == "nuc":
            matrices = np.moveaxis(_numpy(t), self.dim, 0)
            sizes = np.linalg.norm(matrices, "nuc", axis=(-2, -1)).reshape(channels, -1).sum(1)
        else:
            sizes = np.linalg.norm(rows, self.n, axis=1)
        return self._without(default_mask, np.argsort(sizes, kind="stable")[:k])


class CustomFromMask(BasePruningMethod):
    """Prunes where a given mask is zero."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """Both masks at once."""
        if tuple(default_mask.shape) != tuple(self.mask.shape):
            raise AssertionError(f"prune: wanted a mask of shape {tuple(t.shape)}, saw {tuple(self.mask.shape)}")
        return default_mask * self.mask.to(default_mask.dtype)


# --- by their short names -------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """Register a mask of ones."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: float) -> Module:
    """Prune an amount (a share, or a number) of a parameter's elements at random."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Module, name: str, amount: float, importance_scores: Any = None) -> Module:
    """Prune an amount (a share, or a number) of a parameter's elements, the smallest ones or those of the lowest scores."""
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: float, dim: int) -> Module:
    """Prune an amount (a share, or a number) of a parameter's channels along dim at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Module, name: str, amount: float, n: Any, dim: int, importance_scores: Any = None) -> Module:
    """Prune an amount (a share, or a number) of a parameter's channels along dim, those of the smallest n-norm."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]], pruning_method: type, importance_scores: Any = None, **kwargs: Any
) -> None:
    """Prune (module, name) pairs together, as if their parameters were one vector."""
    pairs = list(parameters)
    if pruning_method.PRUNING_TYPE != "unstructured":  # type: ignore[attr-defined]
        raise TypeError(f"global_unstructured: wanted an unstructured pruning method, saw {pruning_method.__name__}")
    given = importance_scores or {}
    tensors = [getattr(m, n) for m, n in pairs]
    scores = [given.get((m, n), t) for (m, n), t in zip(pairs, tensors, strict=True)]
    masks = [m._buffers.get(f"{n}_mask") for m, n in pairs]
    ones = [np.ones(t.array.size) if m is None else _numpy(m).reshape(-1) for m, t in zip(masks, tensors, strict=True)]
    container: Any = PruningContainer()
    container._tensor_name = "temp"
    method: Any = pruning_method(**kwargs)
    method._tensor_name = "temp"
    container.add_pruning_method(method)
    flat = wrap(np.concatenate([_numpy(s).reshape(-1) for s in scores]))
    final = _numpy(container.compute_mask(flat, wrap(np.concatenate(ones))))
    at = 0
    for (module, name), t in zip(pairs, tensors, strict=True):
        size = t.array.size
        custom_from_mask(module, name, _like(t, final[at : at + size].reshape(t.array.shape)))
        at += size


def custom_from_mask(module: Module, name: str, mask: Any) -> Module:
    """Prune a parameter where a mask of its shape is zero."""
    CustomFromMask.apply(module, name, mask)
    return module


def remove(module: Module, name: str) -> Module:
    """Make a pruned weight the parameter. ValueError if it was not pruned."""
    handle, method = _hook(module, name)
    if method is None:
        raise ValueError(f"prune.remove: the parameter {name!r} of {type(module).__name__} is not pruned")
    method.remove(module)
    handle.remove()
    return module


def is_pruned(module: Module) -> bool:
    """Whether a parameter of the module, or of one inside it, is pruned."""
    return any(
        isinstance(hook, BasePruningMethod) for m in module.modules() for hook, _ in m._forward_pre_hooks.values()
    )

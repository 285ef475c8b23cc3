"""The state_dict of a module: collecting it, and loading one all at once or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..op import wrap
from ..tape import Traced
from ..tensor import Tensor
from .parameter import Parameter

EXTRA = "_extra_state"


class Keys(NamedTuple):
    """The names that a state_dict lacked, and those that it had too many."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"Keys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def _own(module: Any) -> list[tuple[str, str]]:
    """(register, name) of the module's own entries, in the order of the state_dict."""
    buffers = [n for n in module._buffers if n not in module._non_persistent]
    return [("_parameters", n) for n in module._parameters] + [("_buffers", n) for n in buffers]


def _has_extra(module: Any) -> bool:
    return "get_extra_state" in {n for c in type(module).__mro__[:-2] for n in vars(c)}


def collect(module: Any, into: dict[str, Any], prefix: str, keep_vars: bool) -> dict[str, Any]:
    """Put the state of `module` and of all inside it under `prefix` into the dict `into`."""
    for register, name in _own(module):
        t = module.__dict__[register][name]
        if t is not None:
            into[prefix + name] = t if keep_vars else t.detach()
    if _has_extra(module):
        into[prefix + EXTRA] = module.get_extra_state()
    for name, inside in module._modules.items():
        if inside is not None:
            inside.state_dict(destination=into, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    for hook in tuple(module._state_dict_hooks.values()):
        hook(module, into, prefix, {})
    return into


class _Match:
    """A state_dict laid against a module: what goes where, and what is wrong."""

    def __init__(self, values: Mapping[str, Any], strict: bool) -> None:
        self.values, self.strict = dict(values), strict
        self.keys = Keys([], [])
        self.errors: list[str] = []
        self.writes: list[tuple[Any, str, str, Any]] = []  # (module, register, name, value)
        self.extras: list[tuple[Any, Any]] = []
        self.seen: set[str] = set()
        self.post_hooks: list[Any] = []

    def walk(self, module: Any, prefix: str = "") -> None:
        for hook in tuple(module._load_pre_hooks.values()):
            hook(
                module,
                self.values,
                prefix,
                {},
                self.strict,
                self.keys.missing_keys,
                self.keys.unexpected_keys,
                self.errors,
            )
        for register, name in _own(module):
            t = module.__dict__[register][name]
            if t is None:  # a name that is kept for something switched off: a value for it is unexpected
                continue
            key = prefix + name
            self.seen.add(key)
            if key in self.values:
                self.match(module, register, name, key, t)
            elif name not in module._optional_state:
                self.keys.missing_keys.append(key)
        if _has_extra(module):
            self.seen.add(prefix + EXTRA)
            if prefix + EXTRA in self.values:
                self.extras.append((module, self.values[prefix + EXTRA]))
            else:
                self.keys.missing_keys.append(prefix + EXTRA)
        for name, inside in module._modules.items():
            if inside is not None:
                self.walk(inside, f"{prefix}{name}.")
        self.post_hooks += [(module, hook) for hook in module._load_post_hooks.values()]

    def match(self, module: Any, register: str, name: str, key: str, t: Any) -> None:
        given = self.values[key]
        try:
            value = _array(given)
        except (TypeError, ValueError, RuntimeError) as e:
            self.errors.append(f"{key}: wanted a tensor or an array, saw {type(given).__name__} ({e})")
            return
        if value.shape != t.array.shape:
            self.errors.append(
                f"{key}: the model has shape {tuple(t.array.shape)}, the state_dict has {tuple(value.shape)}"
            )
        elif value.dtype.kind == "c" and t.array.dtype.kind != "c":
            self.errors.append(f"{key}: the model has dtype {t.array.dtype}, the state_dict has {value.dtype}")
        else:
            self.writes.append((module, register, name, given))

    def problems(self) -> list[str]:
        found = []
        if self.strict and self.keys.missing_keys:
            found.append(f"missing keys: {', '.join(self.keys.missing_keys)}")
        if self.strict and self.keys.unexpected_keys:
            found.append(f"unexpected keys: {', '.join(self.keys.unexpected_keys)}")
        if self.errors:
            found.append(f"mismatches: {'; '.join(self.errors)}")
        return found


def _array(value: Any) -> Any:
    """The array of a value of a state_dict: a Tensor's own, an array itself, else by the array protocol."""
    if isinstance(value, Traced):
        return value.array
    if backend.is_array(value):
        return value
    if not hasattr(value, "__array__"):
        raise TypeError("it has no __array__")
    return np.asarray(value)


def load(module: Any, values: Mapping[str, Any], strict: bool, assign: bool) -> Keys:
    """Load `values` into `module` as Module.load_state_dict says."""
    if not isinstance(values, Mapping):
        raise TypeError(f"load_state_dict: wanted a dict, saw {type(values).__name__}")
    found = _Match(values, strict)
    found.walk(module)
    found.keys.unexpected_keys.extend(k for k in found.values if k not in found.seen)

    def check() -> None:
        if problems := found.problems():
            raise RuntimeError(f"load_state_dict: {type(module).__name__} was not changed: {'; '.join(problems)}")

    if not found.post_hooks:
        check()
        _write(found, assign)
        return found.keys
    # A hook after loading may take keys off the lists, so the check comes after it, and so may the way back.
    if found.errors:
        check()
    before = {(m, r, n): (m.__dict__[r][n], m.__dict__[r][n].array.copy()) for m, r, n, _ in found.writes}
    _write(found, assign)
    for inside, hook in found.post_hooks:
        hook(inside, found.keys)
    try:
        check()
    except RuntimeError:
        for (m, register, name), (t, old) in before.items():
            t.array[...] = old
            m.__dict__[register][name] = t
        raise
    return found.keys


def _write(found: _Match, assign: bool) -> None:
    for module, register, name, value in found.writes:
        t = module.__dict__[register][name]
        if assign:
            given = value.detach() if isinstance(value, Tensor) else wrap(_array(value))
            new = Parameter(given, t.requires_grad) if register == "_parameters" else given
            module.__dict__[register][name] = new
        else:
            t.array[...] = backend.to_device(_array(value), backend.device_of(t.array)).astype(
                t.array.dtype, copy=False
            )
            t.version.bump()
    for module, value in found.extras:
        module.set_extra_state(value)

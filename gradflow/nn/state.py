"""The state_dict of a module: collecting it, and loading one all at once or not at all."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..op import wrap
from ..tape import Traced
from ..tensor import Tensor
from .parameter import Parameter, is_lazy

EXTRA = "_extra_state"


class Keys(NamedTuple):
    """The names that a state_dict lacked, and those that it had too many."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class StateDict(OrderedDict):
    """A dict of tensors by dotted name; _metadata has the version of each module's entries."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._metadata: Any = OrderedDict()


def _own(module: Any) -> list[tuple[str, str]]:
    """(register, name) of the module's own entries, in the order of the state_dict."""
    buffers = [n for n in module._buffers if n not in module._non_persistent_buffers_set]
    return [("_parameters", n) for n in module._parameters] + [("_buffers", n) for n in buffers]


def _defines(module: Any, name: str) -> bool:
    """Whether the module's class defines a method of Module anew."""
    from .module import Module

    return getattr(type(module), name) is not getattr(Module, name)


# --- collecting -----------------------------------------------------------------------------------------


def save_own(module: Any, into: Any, prefix: str, keep_vars: bool) -> None:
    """The entries of `module` itself, as Module._save_to_state_dict says."""
    for register, name in _own(module):
        t = module.__dict__[register][name]
        if t is not None:
            into[prefix + name] = t if keep_vars else t.detach()
    if _defines(module, "get_extra_state"):
        into[prefix + EXTRA] = module.get_extra_state()


def collect(module: Any, into: Any, prefix: str, keep_vars: bool) -> Any:
    """Put the state of `module` and of all inside it under `prefix` into the dict `into`."""
    into = StateDict() if into is None else into
    about = {"version": module._version}
    if hasattr(into, "_metadata"):
        into._metadata[prefix[:-1]] = about
    for hook in tuple(module._state_dict_pre_hooks.values()):
        hook(module, prefix, keep_vars)
    module._save_to_state_dict(into, prefix, keep_vars)
    for name, inside in module._modules.items():
        if inside is not None:
            inside.state_dict(destination=into, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    for hook in tuple(module._state_dict_hooks.values()):
        new = hook(module, into, prefix, about)
        into = into if new is None else new
    return into


# --- loading --------------------------------------------------------------------------------------------


class _Load:
    """One loading: what goes where, what is wrong, and the way back.

    later   writes are put off until all names and shapes are known to be right. Not so where a module has a hook after
            loading or a _load_from_state_dict of its own, which want to see the values: then each is undone on failure.
    """

    def __init__(self, values: Any, strict: bool, assign: bool, later: bool) -> None:
        self.metadata = getattr(values, "_metadata", None) or {}
        self.strict, self.assign, self.later = strict, assign, later
        self.keys = Keys([], [])
        self.errors: list[str] = []
        self.writes: list[tuple[Any, str, str, Any]] = []  # (module, register, name, value)
        self.extras: list[tuple[Any, Any]] = []
        self.before: dict[tuple[Any, str, str], tuple[Any, Any]] = {}

    def walk(self, module: Any, values: dict[str, Any], prefix: str = "") -> None:
        about = dict(self.metadata.get(prefix[:-1], {}))
        if self.assign:
            about["assign_to_params_buffers"] = True
        missing, unexpected = self.keys
        module._load_from_state_dict(values, prefix, about, True, missing, unexpected, self.errors)
        for name, inside in module._modules.items():
            if inside is not None:
                start = f"{prefix}{name}."
                self.walk(inside, {k: v for k, v in values.items() if k.startswith(start)}, start)
        for hook in tuple(module._load_state_dict_post_hooks.values()):
            if hook(module, self.keys) is not None:
                raise AssertionError("load_state_dict: a hook after loading gives nothing back; it changes the lists")

    def put(self, module: Any, register: str, name: str, value: Any) -> None:
        if self.later:
            self.writes.append((module, register, name, value))
            return
        t = module.__dict__[register][name]
        if not is_lazy(t):
            self.before.setdefault((module, register, name), (t, t.array.copy()))
        _write(module, register, name, value, self.assign)

    def extra(self, module: Any, value: Any) -> None:
        if self.later:
            self.extras.append((module, value))
        else:
            module.set_extra_state(value)

    def finish(self) -> None:
        for write in self.writes:
            _write(*write, self.assign)
        for module, value in self.extras:
            module.set_extra_state(value)

    def undo(self) -> None:
        for (module, register, name), (t, old) in self.before.items():
            t.array[...] = old
            module.__dict__[register][name] = t

    def problems(self) -> list[str]:
        found = []
        if self.strict and self.keys.missing_keys:
            found.append(f"missing keys: {', '.join(self.keys.missing_keys)}")
        if self.strict and self.keys.unexpected_keys:
            found.append(f"unexpected keys: {', '.join(self.keys.unexpected_keys)}")
        if self.errors:
            found.append(f"mismatches: {'; '.join(self.errors)}")
        return found


class _Current(threading.local):
    load: _Load | None = None


_current = _Current()


def load_own(
    module: Any,
    values: dict[str, Any],
    prefix: str,
    about: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """The entries of `module` itself, as Module._load_from_state_dict says."""
    loading = _current.load or _Load(values, strict, about.get("assign_to_params_buffers", False), False)
    for hook, options in tuple(module._load_state_dict_pre_hooks.values()):
        before = (module,) if options["with_module"] else ()
        hook(*before, values, prefix, about, strict, missing, unexpected, errors)
    known = set()
    for register, name in _own(module):
        t = module.__dict__[register][name]
        if t is None:  # a name that is kept for something switched off: a value for it is unexpected
            continue
        key = prefix + name
        known.add(name)
        if key in values:
            if (value := _fitting(values[key], key, t, errors)) is not None:
                loading.put(module, register, name, value)
        elif strict and (about.get("version") or 0) >= module._since.get(name, 0):
            missing.append(key)
    if _defines(module, "set_extra_state") or _defines(module, "get_extra_state"):
        known.add(EXTRA)
        if prefix + EXTRA in values:
            loading.extra(module, values[prefix + EXTRA])
        elif strict:
            missing.append(prefix + EXTRA)
    if strict:
        for key in values:
            if key.startswith(prefix):
                first, dot, _ = key[len(prefix) :].partition(".")
                if first not in (module._modules if dot else known) or (dot and module._modules[first] is None):
                    unexpected.append(key)


def _fitting(given: Any, key: str, t: Any, errors: list[str]) -> Any:
    """The value of a key as it goes into t, or None and an error."""
    if is_lazy(given):
        if not is_lazy(t):
            errors.append(f"{key}: the model has shape {tuple(t.array.shape)}, the state_dict's has none yet")
        return None
    try:
        value = _array(given)
    except (TypeError, ValueError, RuntimeError) as e:
        errors.append(f"{key}: wanted a tensor or an array, saw {type(given).__name__} ({e})")
        return None
    if is_lazy(t):
        return given
    if t.array.shape == () and value.shape == (1,):  # numbers were once written as vectors of one
        given = given[0]
    elif value.shape != t.array.shape:
        errors.append(f"{key}: the model has shape {tuple(t.array.shape)}, the state_dict has {tuple(value.shape)}")
        return None
    if value.dtype.kind == "c" and t.array.dtype.kind != "c":
        errors.append(f"{key}: the model has dtype {t.array.dtype}, the state_dict has {value.dtype}")
        return None
    return given


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
    later = not any(m._load_state_dict_post_hooks or _defines(m, "_load_from_state_dict") for m in module.modules())
    loading, outer = _Load(values, strict, assign, later), _current.load
    _current.load = loading
    try:
        loading.walk(module, dict(values))
        if problems := loading.problems():
            raise RuntimeError(f"load_state_dict: {type(module).__name__} was not changed: {'; '.join(problems)}")
    except BaseException:
        loading.undo()
        raise
    finally:
        _current.load = outer
    loading.finish()
    return loading.keys


def _write(module: Any, register: str, name: str, value: Any, assign: bool) -> None:
    t = module.__dict__[register][name]
    if is_lazy(t):
        t.materialize(_array(value).shape)
    if assign:
        given = value.detach() if isinstance(value, Tensor) else wrap(_array(value))
        if register == "_parameters":
            # a Parameter is taken as it is, so that who holds it holds the module's
            kept = isinstance(value, Parameter)
            given = value.requires_grad_(t.requires_grad) if kept else Parameter(given, t.requires_grad)
        module.__dict__[register][name] = given
    else:
        t.array[...] = backend.to_device(_array(value), backend.device_of(t.array)).astype(t.array.dtype, copy=False)
        t.version.bump()

"""Saved states of optimizers: a dict by the numbers of parameters, as PyTorch lays it out, and the way back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, float32, float64
from ..op import wrap
from ..ops.layout import copied
from ..tape import Traced
from .hooks import Hooked


class Saved(Hooked):
    """The part of an Optimizer that gives its state and takes one up."""

    defaults: dict[str, Any]
    state: defaultdict[Any, dict[str, Any]]
    param_groups: list[dict[str, Any]]
    scalars: tuple[str, ...] = ("step",)  # states that are one number, on the CPU unless the group is capturable

    def state_dict(self) -> dict[str, Any]:
        """{"state": by a parameter's number, "param_groups": with numbers for parameters}; memory is shared."""
        for hook in tuple(self._hooks["state_pre"].values()):
            hook(self)
        numbers: dict[int, int] = {}
        for i, p in enumerate(p for group in self.param_groups for p in group["params"]):
            numbers.setdefault(id(p), i)
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [numbers[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        state: dict[Any, Any] = {numbers[id(p)] if isinstance(p, Traced) else p: v for p, v in self.state.items()}
        packed: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in tuple(self._hooks["state_post"].values()):
            replaced = hook(self, packed)
            packed = packed if replaced is None else replaced
        return packed

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up copies of what state_dict() gave, cast and moved to the parameters; ValueError if groups differ."""
        state_dict = dict(state_dict)
        for hook in tuple(self._hooks["load_pre"].values()):
            replaced = hook(self, state_dict)
            state_dict = state_dict if replaced is None else replaced
        saved, mine = state_dict["param_groups"], self.param_groups
        if [len(g["params"]) for g in saved] != [len(g["params"]) for g in mine]:
            raise ValueError(
                f"load_state_dict: wanted groups of {[len(g['params']) for g in mine]} parameters, "
                f"saw {[len(g['params']) for g in saved]}"
            )
        groups = [self._take_group(group, old) for group, old in zip(mine, saved, strict=True)]
        owner = {
            number: (p, group)
            for group, old in zip(groups, saved, strict=True)
            for number, p in zip(old["params"], group["params"], strict=True)
        }
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            if number not in owner:
                state[number] = values
                continue
            p, group = owner[number]
            for name, like in self.init(p.array, group).items():  # type: ignore[attr-defined]
                v = values.get(name)
                v = v.array if isinstance(v, Traced) else v
                if v is not None and backend.is_array(like) and tuple(np.shape(v)) != tuple(like.shape):
                    raise ValueError(f"load_state_dict: wanted {name} of shape {like.shape}, saw {tuple(np.shape(v))}")
            state[p] = {name: self._fit(name, v, p, group) for name, v in values.items()}
        self.state, self.param_groups = state, groups
        for hook in tuple(self._hooks["load_post"].values()):
            hook(self)

    def _take_group(self, group: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        """The saved hyperparameters of a group, with the parameters that are there."""
        new = {k: _taken(v, self.defaults.get(k)) for k, v in old.items()}
        new["params"] = group["params"]
        if "param_names" in group:
            new.setdefault("param_names", group["param_names"])
        return {**new, **{k: v for k, v in self.defaults.items() if k not in new}}

    def _fit(self, name: str, v: Any, p: Any, group: dict[str, Any]) -> Any:
        """A copy of a saved value as state of p: on its device, in its order, and cast to its dtype if floating; counts stay."""
        if isinstance(v, (list, tuple)):
            return type(v)(self._fit("", u, p, group) for u in v)
        if isinstance(v, dict):
            return {k: self._fit(k, u, p, group) for k, u in v.items()}
        v = v.array if isinstance(v, Traced) else v
        if name in self.scalars and v is not None:
            home = p.device if group.get("capturable") and p.is_cuda else backend.CPU
            return wrap(_copy(v, home, float64 if backend.get_default_dtype() == float64 else float32))
        if not (backend.is_array(v) or type(v).__module__.startswith("torch")):
            return v
        own = _copy(v, p.device, p.dtype if backend.is_differentiable(p.dtype) else None)
        return wrap(own if own.shape != p.array.shape or p.array.flags.c_contiguous else copied(own, p.array))


def _taken(v: Any, default: Any) -> Any:
    """A saved hyperparameter: a copy of a tensor, of PyTorch's too, and a tuple where the default is one."""
    if isinstance(v, (list, tuple)):
        values = [_taken(u, None) for u in v]
        return tuple(values) if isinstance(default, tuple) or isinstance(v, tuple) else values
    if isinstance(v, Traced):
        return wrap(v.array.copy())
    return wrap(np.asarray(v).copy()) if type(v).__module__.startswith("torch") else v


def _copy(v: Any, home: backend.device, dtype: Any) -> Array:
    v = v if backend.is_array(v) else np.asarray(v)
    moved = backend.to_device(v, home)
    return moved.astype(dtype or v.dtype, copy=True, order="C")

"""Optimizer: groups of parameters with their hyperparameters, the state of each, and a step that updates them all."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, float32, float64, on_card
from ..op import wrap
from ..tape import Traced, mode
from ..tensor import RemovableHandle, Tensor
from .update import count_step, many


def full(p: Array, value: float) -> Array:
    """An array like p, contiguous, filled with `value`: fresh state."""
    if type(p) is np.ndarray:
        return np.full(p.shape, value, p.dtype) if value else np.zeros(p.shape, p.dtype)
    with backend.on(backend.device_of(p)) as xp:
        return xp.full(p.shape, value, p.dtype) if value else xp.zeros(p.shape, p.dtype)


def zeros(p: Array) -> Array:
    """Zeros like p, contiguous."""
    return full(p, 0)


def real(x: Array) -> Array:
    """A complex array as pairs of real numbers, sharing memory; any other as it is."""
    if x.dtype.kind != "c":
        return x
    if not x.flags.c_contiguous:
        raise RuntimeError(f"step: wanted a contiguous complex parameter, saw strides {x.strides} for shape {x.shape}")
    return x.reshape(-1).view(float32 if x.dtype.itemsize == 8 else float64)


class Optimizer:
    """The base of all optimizers. One of its own is an init and an update, mostly a rule (see optim.update) for many().

    params     tensors, or (name, tensor) pairs, or dicts {"params": ..., hyperparameters of this group}
    defaults   hyperparameters of the groups that do not set them
    state      of each parameter, a dict of tensors by PyTorch's names; made when it first has a gradient
    ValueError for no parameters, for one that is not a leaf or is in two groups; TypeError for what is not a tensor.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Traced):
            raise TypeError("optimizer: wanted an iterable of parameters, saw one tensor")
        self.defaults = defaults
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        self.steps_taken = 0  # a learning rate schedule warns if it goes on before the optimizer does
        moments = ("step_pre", "step_post", "state_pre", "state_post", "load_pre", "load_post")
        self._hooks: dict[str, dict] = {moment: {} for moment in moments}
        groups = list(params)
        if not groups:
            raise ValueError("optimizer: wanted at least one parameter, saw an empty list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    # --- what a new optimizer defines ------------------------------------------------------------

    def init(self, p: Array, group: dict[str, Any]) -> dict[str, Any]:
        """The state of the parameter array p before its first step: arrays by PyTorch's names."""
        return {}

    def update(self, group: dict, p: list, g: list, state: dict[str, list], step: Any, fresh: bool) -> None:
        """Write the next values of arrays of one dtype on one device, and their state, given their gradients.

        state   a list of arrays for each name that init gave
        step    the number of this step, counted from one; a list of 0-d arrays if it is counted on the card
        fresh   whether this is the first step of these parameters
        """
        raise NotImplementedError(f"{type(self).__name__}: the optimizer has no update()")

    # --- hyperparameters -------------------------------------------------------------------------

    def at_least_zero(self, **values: Any) -> None:
        """ValueError, naming it, if one of the values is negative or not a number."""
        for name, v in values.items():
            if isinstance(v, Traced) and v.array.size != 1:
                raise ValueError(f"{type(self).__name__}: wanted one number as {name}, saw shape {v.array.shape}")
            if not float(v) >= 0:
                raise ValueError(f"{type(self).__name__}: wanted {name} >= 0, saw {v}")

    def below_one(self, betas: tuple[float, float]) -> None:
        """ValueError if one of the decay rates is not in [0, 1)."""
        for i, beta in enumerate(betas):
            if not 0 <= float(beta) < 1:
                raise ValueError(f"{type(self).__name__}: wanted 0 <= betas[{i}] < 1, saw {beta}")

    def rate(self, group: dict[str, Any], like: Array) -> Any:
        """The learning rate of a group: a number, or the array of a tensor that is on the card with the parameters."""
        lr = group["lr"]
        if not isinstance(lr, Traced):
            return lr
        return lr.array if on_card(lr.array) and on_card(like) else lr.array.item()

    def counter(self, p: Array, group: dict[str, Any]) -> Array:
        """A count of steps, zero: on the CPU, or with the parameter if the group is capturable."""
        dtype = float64 if backend.get_default_dtype() == float64 else float32
        if group.get("capturable") and on_card(p):
            with backend.on(backend.device_of(p)) as xp:
                return xp.zeros((), dtype)
        return np.zeros((), dtype)

    # --- groups ----------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group {"params": tensors or (name, tensor) pairs, hyperparameters}, for layers that join later."""
        if not isinstance(param_group, dict):
            raise TypeError(f"add_param_group: wanted a dict, saw {type(param_group).__name__}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, (set, frozenset)):
            raise TypeError("add_param_group: wanted parameters in an order, saw a set")
        params = [params] if isinstance(params, Traced) else list(params)
        named = [p for p in params if isinstance(p, tuple) and len(p) == 2]
        if named:
            if len(named) != len(params):
                raise ValueError("add_param_group: wanted names for all parameters or for none, saw a mixture")
            group["param_names"], params = [n for n, _ in params], [p for _, p in params]
        group["params"] = params
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer: wanted tensors to optimize, saw {type(p).__name__}")
            if not (p.is_leaf or p.retains_grad):
                raise ValueError(f"optimizer: wanted leaves, saw the output of {p.grad_fn.name}")  # type: ignore[union-attr]
        if self.param_groups and ("param_names" in self.param_groups[0]) != ("param_names" in group):
            raise ValueError("add_param_group: wanted names in all groups or in none, saw a mixture")
        for name, default in self.defaults.items():
            if default is REQUIRED and name not in group:
                raise ValueError(f"optimizer: wanted a value for {name}, saw none")
            group.setdefault(name, default)
        if group.get("differentiable"):
            raise ValueError(f"{type(self).__name__}: wanted differentiable=False, saw True: steps are not recorded")
        if len({id(p) for p in params}) != len(params):
            warnings.warn("optimizer: a group holds a parameter twice and will step it twice", stacklevel=3)
        others = {id(p) for other in self.param_groups for p in other["params"]}
        if any(id(p) in others for p in params):
            raise ValueError("optimizer: wanted each parameter in one group, saw one in two")
        self.param_groups.append(group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with set_to_none=False fill them with zeros in place."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none or p.grad is None:
                    p.grad = None
                elif p.grad.node is not None:
                    p.grad = wrap(backend.namespace(p.grad.array).zeros_like(p.grad.array))
                else:
                    p.grad.array.fill(0)
                    p.grad.version.bump()

    # --- the step --------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in place; give the loss of closure, which is called first."""
        for hook in tuple(self._hooks["step_pre"].values()):
            hook(self, (closure,) if closure is not None else (), {})
        loss = None if closure is None else self.evaluate(closure)
        for group in self.param_groups:
            self.step_group(group)
        self.steps_taken += 1
        for hook in tuple(self._hooks["step_post"].values()):
            hook(self, (closure,) if closure is not None else (), {})
        return loss

    @staticmethod
    def evaluate(closure: Callable[[], Any]) -> Any:
        """Call closure, which computes the loss and its gradients, with recording on."""
        before, mode.enabled = mode.enabled, True
        try:
            return closure()
        finally:
            mode.enabled = before

    def begin(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """Give p its first state."""
        state = {k: wrap(v) if backend.is_array(v) else v for k, v in self.init(p.array, group).items()}
        if state:
            self.state[p] = state
        return state

    def step_group(self, group: dict[str, Any]) -> None:
        """Update the parameters of a group: all those of one kind, one device, and one number of steps together."""
        kinds: dict[tuple, tuple] = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            x, g = p.array, p.grad.array
            if type(x) is not type(g) or x.dtype != g.dtype or x.shape != g.shape:
                raise RuntimeError(
                    f"step: wanted a gradient like its parameter, {x.shape} {x.dtype} on {backend.device_of(x)}, "
                    f"saw {g.shape} {g.dtype} on {backend.device_of(g)}"
                )
            state = self.state.get(p) or {}
            fresh = all(v is None for v in state.values())
            if fresh:
                state = self.begin(p, group)
            step = counter = None
            if "step" in state:
                counter = state["step"].array
                if type(counter) is np.ndarray:
                    counter += 1
                    step = counter.item()
            kind = (type(x), None if type(x) is np.ndarray else x.device.id, x.dtype, step, fresh)
            if kind not in kinds:
                kinds[kind] = ([], [], {name: [] for name in state}, [])
            xs, gs, columns, counters = kinds[kind]
            complex_ = x.dtype.kind == "c"
            xs.append(real(x) if complex_ else x)
            gs.append(real(g.copy(order="C") if not g.flags.c_contiguous else g) if complex_ else g)
            for name, column in columns.items():
                if name != "step":
                    v = state[name].array
                    column.append(real(v) if complex_ else v)
            if step is None and counter is not None:
                counters.append(counter)
            p.version.bump()
        for (_, _, _, step, fresh), (xs, gs, columns, counters) in kinds.items():
            if counters:
                many(count_step, counters, None, [])
            self.update(group, xs, gs, columns, counters or step, fresh)

    # --- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """{"state": by a parameter's number, "param_groups": with numbers for parameters}; memory is shared."""
        for hook in tuple(self._hooks["state_pre"].values()):
            hook(self)
        numbers = {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
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
        owner = {
            number: (p, group)
            for group, old in zip(mine, saved, strict=True)
            for number, p in zip(old["params"], group["params"], strict=True)
        }
        for number, values in state_dict["state"].items():
            for name, like in self.init(owner[number][0].array, owner[number][1]).items() if number in owner else ():
                v = _array(values.get(name))
                if v is not None and backend.is_array(like) and tuple(np.shape(v)) != tuple(like.shape):
                    raise ValueError(f"load_state_dict: wanted {name} of shape {like.shape}, saw {tuple(np.shape(v))}")
        kept = ("params", "param_names")
        groups = [
            {**old, **{k: group[k] for k in kept if k in group}} for group, old in zip(mine, saved, strict=True)
        ]
        for group in groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
            if isinstance(group.get("betas"), list):  # JSON has no tuples
                group["betas"] = tuple(group["betas"])
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for number, values in state_dict["state"].items():
            if number in owner:
                p, _ = owner[number]
                group = next(g for g in groups if any(q is p for q in g["params"]))
                state[p] = {name: _fit(name, v, p, group) for name, v in values.items()}
            else:
                state[number] = values
        self.state, self.param_groups = state, groups
        for hook in tuple(self._hooks["load_post"].values()):
            hook(self)

    # --- hooks -----------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer, args, kwargs) before each step."""
        return RemovableHandle(self._hooks["step_pre"], hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer, args, kwargs) after each step."""
        return RemovableHandle(self._hooks["step_post"], hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer) before state_dict."""
        return RemovableHandle(self._hooks["state_pre"], hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer, state_dict) after state_dict; what it returns, if anything, takes its place."""
        return RemovableHandle(self._hooks["state_post"], hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer, state_dict) before load_state_dict; what it returns, if anything, is loaded instead."""
        return RemovableHandle(self._hooks["load_pre"], hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call hook(optimizer) after load_state_dict."""
        return RemovableHandle(self._hooks["load_post"], hook)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines.extend(f"    {k}: {group[k]}" for k in sorted(group) if k != "params")
        return "\n".join([*lines, ")"])


REQUIRED: Any = object()  # the default of a hyperparameter that has none


def _array(v: Any) -> Any:
    return v.array if isinstance(v, Traced) else v


def _fit(name: str, v: Any, p: Tensor, group: dict[str, Any]) -> Any:
    """A copy of a saved value as state of p: on its device, and cast to its dtype if that is floating; counts stay."""
    v = _array(v)
    if name == "step":
        home = p.device if group.get("capturable") and p.is_cuda else backend.CPU
        dtype = float64 if backend.get_default_dtype() == float64 else float32
        return wrap(_copy(v, home, dtype))
    if not (backend.is_array(v) or type(v).__module__.startswith("torch")):
        return v
    return wrap(_copy(v, p.device, p.dtype if backend.is_differentiable(p.dtype) else None))


def _copy(v: Any, home: backend.device, dtype: Any) -> Array:
    v = v if backend.is_array(v) else np.asarray(v)
    copied = backend.to_device(v, home)
    return copied.astype(dtype or v.dtype, copy=True, order="C")

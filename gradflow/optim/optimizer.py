"""Optimizer: groups of parameters with their hyperparameters, the state of each, and a step that updates them all."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, float32, float64, on_card
from ..op import unwrap, wrap
from ..ops import shape as shapes
from ..ops.complexes import view_as_complex, view_as_real
from ..ops.layout import alike
from ..tape import Traced, mode
from ..tensor import Tensor
from .captured import repeat, replayed
from .hooks import MOMENTS, hooked, register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from .saved import Saved
from .update import count_step, many, scaler, tentative

__all__ = [
    "REQUIRED", "Optimizer", "full", "pairs", "real", "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook", "required", "zeros",
]  # fmt: skip

REQUIRED: Any = type("REQUIRED", (), {"__repr__": lambda self: "<required parameter>"})()
required = REQUIRED  # the default of a hyperparameter that has none


def full(p: Array, value: float) -> Array:
    """An array like p, without gaps, filled with `value`, of complex numbers in both parts: fresh state."""
    if p.dtype.kind == "c" and value:
        value = complex(value, value)  # type: ignore[assignment]
    with backend.on(backend.device_of(p)) as xp:
        return alike(p, lambda size: xp.full(size, value, p.dtype) if value else xp.zeros(size, p.dtype))


def zeros(p: Array) -> Array:
    """Zeros like p, without gaps."""
    return full(p, 0)


def pairs(x: Array) -> Array:
    """A complex array with one more dimension, of its two parts, sharing memory."""
    return x[..., None].view(float32 if x.dtype.itemsize == 8 else float64)


def real(x: Array) -> Array:
    """A complex array as its parts, sharing memory: a flat one if it is contiguous; any other as it is."""
    if x.dtype.kind != "c":
        return x
    if x.flags.c_contiguous:
        return pairs(x).reshape(-1)
    if on_card(x):
        raise RuntimeError(f"step: wanted a contiguous complex parameter, saw strides {x.strides} for shape {x.shape}")
    return pairs(x)


class Optimizer(Saved):
    """The base of all optimizers. One of its own is an init and an update, mostly a rule (see optim.update) for many().

    params     tensors, or (name, tensor) pairs, or dicts {"params": ..., hyperparameters of this group}
    defaults   hyperparameters of the groups that do not set them
    state      of each parameter, a dict of tensors by PyTorch's names; made when it first has a gradient
    Or it has a step() of its own, as in PyTorch.
    ValueError for no parameters, for one that is not a leaf or is in two groups; TypeError for what is not a tensor.
    """

    real_only = False  # whether complex parameters are refused
    by_rules = True  # whether update() writes by many() alone, which knows what a gradient scaler says

    # What a gradient scaler sets around step() where _step_supports_amp_scaling: float32 arrays or tensors of one element.
    # Gradients are divided by grad_scale as they are read (they stay as they are), and nothing changes if found_inf is not 0.
    _step_supports_amp_scaling = False
    grad_scale: Any = None
    found_inf: Any = None

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        if isinstance(params, Traced) or not isinstance(params, Iterable):
            saw = "one tensor" if isinstance(params, Traced) else type(params).__name__
            raise TypeError(f"optimizer: wanted an iterable of parameters, saw {saw}")
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        self._hooks = {moment: {} for moment in MOMENTS}
        groups = list(params)
        if not groups:
            raise ValueError("optimizer: wanted at least one parameter, saw an empty list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        if defaults.get("fused"):
            if defaults.get("differentiable"):
                raise RuntimeError(f"{type(self).__name__}: wanted fused or differentiable, saw both")
            if defaults.get("foreach"):
                raise RuntimeError(f"{type(self).__name__}: wanted fused or foreach, saw both")

    # --- what a new optimizer defines ------------------------------------------------------------

    def init(self, p: Array, group: dict[str, Any]) -> dict[str, Any]:
        """The state of the parameter array p before its first step: arrays by PyTorch's names."""
        return {}

    def update(self, group: dict, p: list, g: list, state: dict[str, list], step: Any, fresh: bool) -> None:
        """Write the next values of arrays of one dtype on one device, and their state, given their gradients.

        group   its hyperparameters, those that were tensors as numbers (a learning rate on the card stays an array)
        state   a list of arrays for each name that init gave
        step    the number of this step, counted from one; a list of 0-d arrays if it is counted on the card
        fresh   whether this is the first step of these parameters
        With differentiable=True the arrays are Tensors, and what is written to them is recorded.
        """
        raise NotImplementedError(f"{type(self).__name__}: the optimizer has no update()")

    # --- hyperparameters -------------------------------------------------------------------------

    def at_least_zero(self, **values: Any) -> None:
        """ValueError, naming it, if one of the values is negative or not a number."""
        for name, v in values.items():
            if isinstance(v, Traced) and v.array.size != 1:
                raise ValueError(f"{type(self).__name__}: wanted one number as {name}, saw shape {v.array.shape}")
            v = v.array.item() if isinstance(v, Traced) else v
            if not isinstance(v, Real):
                raise TypeError(f"{type(self).__name__}: wanted a number as {name}, saw {v!r}")
            if not v >= 0:
                raise ValueError(f"{type(self).__name__}: wanted {name} >= 0, saw {v}")

    def below_one(self, betas: tuple[Any, Any]) -> None:
        """ValueError if one of the decay rates is not in [0, 1)."""
        for i, beta in enumerate(betas):
            if isinstance(beta, Traced) and beta.array.size != 1:
                raise ValueError(
                    f"{type(self).__name__}: wanted one number as betas[{i}], saw shape {beta.array.shape}"
                )
            if not 0 <= (beta.array.item() if isinstance(beta, Traced) else beta) < 1:
                raise ValueError(f"{type(self).__name__}: wanted 0 <= betas[{i}] < 1, saw {beta}")

    def counter(self, p: Array, group: dict[str, Any], value: float = 0) -> Array:
        """A count of steps, zero, or another number: on the CPU, or with the parameter if the group is capturable."""
        dtype = float64 if backend.get_default_dtype() == float64 else float32
        if group.get("capturable") and on_card(p):
            with backend.on(backend.device_of(p)) as xp:
                return xp.full((), value, dtype)
        return np.full((), value, dtype)

    # --- groups ----------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group {"params": tensors or (name, tensor) pairs, hyperparameters}, for layers that join later.

        The dict itself becomes the group, completed with the defaults.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"add_param_group: wanted a dict, saw {type(param_group).__name__}")
        group = param_group
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
            if not (self.defaults.get("differentiable") or p.is_leaf or p.retains_grad):
                raise ValueError(f"optimizer: wanted leaves, saw the output of {p.grad_fn.name}")  # type: ignore[union-attr]
        if self.param_groups and ("param_names" in self.param_groups[0]) != ("param_names" in group):
            raise ValueError("add_param_group: wanted names in all groups or in none, saw a mixture")
        for name, default in self.defaults.items():
            if default is REQUIRED and name not in group:
                raise ValueError(f"optimizer: wanted a value for {name}, saw none")
            group.setdefault(name, default)
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

    @hooked
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, in place; give the loss of closure, which is called first."""
        loss = None if closure is None else self.evaluate(closure)
        found, graph = unwrap(self.found_inf), backend.capture.graph
        if type(found) is np.ndarray and found.any():
            return loss
        scaler.scale, scaler.found_inf = unwrap(self.grad_scale), found if on_card(found) else None
        try:
            for group in self.param_groups:
                numbers = _numbers(group, self.defaults)
                if graph is not None and _on_card(group):
                    numbers |= replayed(group, numbers, graph)
                if group.get("differentiable"):
                    self.step_recorded(group, numbers)
                else:
                    self.step_group(group, numbers)
        finally:
            scaler.scale = scaler.found_inf = None
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
        if self.real_only and p.array.dtype.kind == "c":
            raise RuntimeError(f"{type(self).__name__}: wanted real parameters, saw {p.array.dtype}")
        state = {k: wrap(v) if backend.is_array(v) else v for k, v in self.init(p.array, group).items()}
        if state:
            self.state[p] = state
        return state

    def _state(self, p: Tensor, group: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """The state of p, and whether it is new; RuntimeError if its gradient does not fit."""
        x, g = p.array, p.grad.array  # type: ignore[union-attr]
        if type(x) is not type(g) or x.dtype != g.dtype or x.shape != g.shape:
            raise RuntimeError(
                f"step: wanted a gradient like its parameter, {x.shape} {x.dtype} on {backend.device_of(x)}, "
                f"saw {g.shape} {g.dtype} on {backend.device_of(g)}"
            )
        if group.get("fused") and not backend.is_floating(x.dtype):
            raise RuntimeError(f"{type(self).__name__}: wanted real floating parameters for fused, saw {x.dtype}")
        state = self.state.get(p)
        if state:
            for v in state.values():
                if v is not None:
                    return state, False
        return self.begin(p, group), True

    def step_group(self, group: dict[str, Any], numbers: dict[str, Any]) -> None:
        """Update the parameters of a group: all those of one kind, one device, and one number of steps together."""
        kinds: dict[tuple, tuple] = {}
        graph = backend.capture.graph
        # counts from which more follows than a kernel works out are kept on the card where steps are captured
        moved = scaler.found_inf is not None or (len(self.scalars) > 1 and (graph is not None or backend.capture.near))
        counted: list[Tensor] = []  # counts of steps on the CPU
        for p in group["params"]:
            if p.grad is None:
                continue
            state, fresh = self._state(p, group)
            x, g = p.array, p.grad.array
            here = type(x) is np.ndarray
            if moved and not here:
                self._move_counts(state, x)
            cells = tuple([state[name].array for name in self.scalars if name in state])
            values: tuple = ()
            if cells and type(cells[0]) is np.ndarray:
                if "step" in state:
                    cells[0][...] += 1
                    counted.append(state["step"])
                values = tuple([c.item() for c in cells])
            kind = (here or x.device.id, x.dtype, values, fresh, tuple(state))
            found = kinds.get(kind)
            if found is None:
                found = kinds[kind] = ([], [], {name: [] for name in state})
            xs, gs, columns = found
            if x.dtype.kind == "c":
                parts = real if x.flags.c_contiguous or not here else pairs
                xs.append(parts(x))
                gs.append(parts(g if g.flags.c_contiguous else g.copy(order="C")))
                for name, column in columns.items():
                    column.append(state[name].array if name in self.scalars else parts(state[name].array))
            else:
                xs.append(x)
                gs.append(g)
                for name, column in columns.items():
                    column.append(state[name].array)
            p.version.bump()
        counts = repeat(self, group, graph, counted) if graph is not None and kinds else {}
        for (here, _, values, fresh, _), (xs, gs, columns) in kinds.items():
            step = None
            if graph is not None and fresh and columns:
                raise RuntimeError(f"{type(self).__name__}: wanted a step before the capture, which makes its state, saw none")
            if "step" in columns:
                steps = columns["step"]
                if not values:
                    many(count_step, steps, None, [])
                step = values[0] if values else steps
                if graph is not None and here is not True:
                    graph.kept += [*xs, *gs, *(x for column in columns.values() for x in column)]
                if values and graph is not None and here is not True:
                    step = [graph.number(counts[id(steps[0])].item, steps[0].dtype)] * len(steps)
            if self.by_rules or (scaler.scale is None and scaler.found_inf is None):
                self.update(numbers, xs, gs, columns, step, fresh)
                continue
            written = [x for name, column in columns.items() if name not in self.scalars for x in column]
            with tentative(gs, [*xs, *written]) as plain:
                self.update(numbers, xs, plain or gs, columns, step, fresh)

    def _move_counts(self, state: dict[str, Any], x: Array) -> None:
        """Keep the counts of a state where its parameter x is: the CPU is not told whether a step was skipped."""
        for name in self.scalars:
            if name in state and type(state[name].array) is np.ndarray:
                if backend.capture.graph is not None:
                    raise RuntimeError(f"{type(self).__name__}: wanted counts on the card (capturable=True) before the capture")
                state[name] = wrap(backend.to_device(state[name].array.astype(float32), backend.device_of(x)))

    def step_recorded(self, group: dict[str, Any], numbers: dict[str, Any]) -> None:
        """Update the parameters of a group one by one, each write recorded, so that a step can be differentiated."""
        before, mode.enabled = mode.enabled, True
        try:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state, fresh = self._state(p, group)
                step = None
                if "step" in state:
                    state["step"].array[...] += 1
                    step = state["step"].array.item()
                x, g = _recorded(p), _recorded(p.grad)
                new = {name: v if name in self.scalars else _recorded(v) for name, v in state.items()}
                held = {name: [v.array if name in self.scalars else v] for name, v in new.items()}
                self.update(numbers, [x], [g], held, step, fresh)
                back = _whole if p.array.dtype.kind == "c" else lambda t: t
                p.copy_(back(x))
                if new:
                    self.state[p] = {name: v if name in self.scalars else back(v) for name, v in new.items()}
        finally:
            mode.enabled = before

    def __repr__(self) -> str:
        groups = []
        for i, group in enumerate(self.param_groups):
            lines = [f"Parameter Group {i}", *(f"    {k}: {group[k]}" for k in sorted(group) if k != "params")]
            groups.append("\n".join(lines) + "\n")
        return f"{type(self).__name__} (" + "".join("\n" + text for text in groups) + ")"


def _recorded(t: Tensor) -> Any:
    """A tensor with memory of its own that follows from t; of complex numbers, their parts."""
    if t.array.dtype.kind == "c":
        t = view_as_real(t)
    return shapes.clone(t)


def _whole(t: Tensor) -> Any:
    """The complex tensor of which t holds the parts."""
    return view_as_complex(t)


def _numbers(group: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """The hyperparameters of these names of a group, tensors among them as numbers.

    A learning rate on the card stays there, for a captured graph; under differentiable all stay tensors, of no dimensions.
    """
    recorded = group.get("differentiable")

    def number(v: Any, name: str) -> Any:
        if isinstance(v, tuple):
            return tuple([number(u, "") for u in v])
        if not isinstance(v, Traced):
            return v
        if recorded:
            return v if v.array.ndim == 0 else shapes.reshape(v, ())
        return v.array.reshape(()) if name == "lr" and on_card(v.array) and _on_card(group) else v.array.item()

    return {**group, **{k: number(group[k], k) for k in names if k in group}}


def _on_card(group: dict[str, Any]) -> bool:
    return any(on_card(p.array) for p in group["params"])

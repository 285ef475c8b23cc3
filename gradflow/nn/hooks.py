"""The hooks around a module's forward and backward."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..autograd import Function
from ..op import current
from ..tape import Traced, mode
from ..tensor import RemovableHandle
from .parameter import filled


def add(register: dict, hook: Callable[..., Any], prepend: bool, **options: Any) -> RemovableHandle:
    """Put a hook and its options into a register, before the others or after them."""
    others = list(register.items()) if prepend else []
    if prepend:
        register.clear()
    handle = RemovableHandle(register, (hook, options))  # type: ignore[arg-type]
    register.update(others)
    return handle


# --- hooks of every module ------------------------------------------------------------------------------

everywhere: dict[Any, tuple] = {}  # handle -> (hook, options): forward_pre, forward, backward_pre or backward
registrations: dict[Any, tuple] = {}  # likewise: parameter, buffer or module


def _of_all(when: str) -> list[tuple]:
    return [(handle, pair) for handle, pair in everywhere.items() if pair[1]["when"] == when]


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(module, args) before the forward of every module; what it returns, if anything, becomes the arguments."""
    return add(everywhere, hook, False, when="forward_pre", with_kwargs=False)


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Call hook(module, args, output) after the forward of every module; what it returns, if anything, becomes the output.

    with_kwargs: hook(module, args, kwargs, output). always_call: also when forward raised, with output None.
    """
    return add(everywhere, hook, False, when="forward", with_kwargs=with_kwargs, always_call=always_call)


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(module, grad_output) when the gradients of any module's outputs are known; its result replaces them."""
    return add(everywhere, hook, False, when="backward_pre")


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(module, grad_input, grad_output) when the gradients of any module's inputs are known; its result replaces them."""
    return add(everywhere, hook, False, when="backward")


register_module_backward_hook = register_module_full_backward_hook


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(module, name, parameter) when any module registers a parameter; what it returns, if anything, takes its place."""
    return add(registrations, hook, False, when="parameter")


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(module, name, buffer) when any module registers a buffer; what it returns, if anything, takes its place."""
    return add(registrations, hook, False, when="buffer")


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call hook(module, name, submodule) when any module registers a module; what it returns, if anything, takes its place."""
    return add(registrations, hook, False, when="module")


def registered(what: str, module: Any, name: str, value: Any) -> Any:
    """What the registration hooks of every module make of a new part."""
    for hook, options in tuple(registrations.values()):
        if options["when"] == what:
            new = hook(module, name, value)
            value = value if new is None else new
    return value


# --- the call -------------------------------------------------------------------------------------------


def call(module: Any, args: tuple, kwargs: dict) -> Any:
    """module.forward with all its hooks, those of every module first."""
    result, ran = None, set()
    try:
        for _, (hook, options) in [*_of_all("forward_pre"), *module._forward_pre_hooks.items()]:
            if options["with_kwargs"]:
                new = hook(module, args, kwargs)
                if new is not None:
                    if not isinstance(new, tuple) or len(new) != 2:
                        raise RuntimeError(f"forward pre-hook: wanted None or (args, kwargs) back, saw {new!r:.80}")
                    args, kwargs = new
            else:
                new = hook(module, args)
                if new is not None:
                    args = new if isinstance(new, tuple) else (new,)
        gate = _Gate(module)
        if gate.hooks or gate.pre_hooks:
            args = gate.enter(args)
        result = module.forward(*args, **kwargs)
        for handle, (hook, options) in [*_of_all("forward"), *module._forward_hooks.items()]:
            ran.add(handle)
            new = hook(module, args, kwargs, result) if options["with_kwargs"] else hook(module, args, result)
            if new is not None:
                result = new
        return gate.leave(result) if gate.hooks or gate.pre_hooks else result
    except Exception:
        for handle, (hook, options) in [*_of_all("forward"), *module._forward_hooks.items()]:
            if options["always_call"] and handle not in ran:
                try:
                    new = hook(module, args, kwargs, result) if options["with_kwargs"] else hook(module, args, result)
                    result = result if new is None else new
                except Exception as e:  # noqa: BLE001  (it must not hide the error of forward)
                    warnings.warn(
                        f"{type(module).__name__}: a forward hook that is always called raised {e!r}", stacklevel=4
                    )
        raise


class _Pass(Function):
    """The identity on several tensors at once, whose backward shows all their gradients to a function."""

    @staticmethod
    def forward(ctx: Any, seen: Callable[[tuple], tuple], *tensors: Any) -> Any:
        ctx.seen = seen
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return (None, *ctx.seen(gradients))


class _Gate:
    """One call of a module with backward hooks: what it is given and gives out passes here, and so do the gradients."""

    def __init__(self, module: Any) -> None:
        self.module, self.count = module, 0
        self.inputs: list[int] | None = None  # which arguments pass, if any
        self.grad_output: tuple | None = None
        self.pre_hooks = [*module._backward_pre_hooks.values(), *(pair for _, pair in _of_all("backward_pre"))]
        self.hooks = [*module._backward_hooks.values(), *(pair for _, pair in _of_all("backward"))]

    def enter(self, args: tuple) -> tuple:
        """The arguments, those that are tensors passed through."""
        self.count = len(args)
        if not mode.enabled:
            return args
        tensors = [i for i, a in enumerate(args) if isinstance(a, Traced)]
        where = [i for i in tensors if current(args[i]) is not None]
        if not where:
            return args
        self.inputs = where
        self.still = [(i, args[i]) for i in tensors if i not in where]  # tensors that need no gradient: theirs is zero
        passed = list(args)
        for i, t in zip(where, _Pass.apply(self._at_inputs, *[args[i] for i in where]), strict=True):
            passed[i] = t
        return tuple(passed)

    def leave(self, result: Any) -> Any:
        """The output, a tensor or a tuple with tensors, passed through."""
        single = not isinstance(result, tuple)
        outputs = [result] if single else list(result)
        where = [i for i, y in enumerate(outputs) if isinstance(y, Traced)]
        if not mode.enabled or not any(current(outputs[i]) is not None for i in where):
            return result
        self.outputs, self.total = where, len(outputs)
        for i, t in zip(where, _Pass.apply(self._at_outputs, *[outputs[i] for i in where]), strict=True):
            outputs[i] = t
        return outputs[0] if single else type(result)(*outputs) if hasattr(result, "_fields") else tuple(outputs)

    def _at_outputs(self, gradients: tuple) -> tuple:
        slots: list[Any] = [None] * self.total
        for i, g in zip(self.outputs, gradients, strict=True):
            slots[i] = g
        g = tuple(slots)
        for hook, _ in self.pre_hooks:
            g = _replaced("backward pre-hook", g, hook(self.module, g))
        self.grad_output = g
        if self.inputs is None:  # no gradient will arrive at the inputs: the hooks run here
            self._run((None,) * self.count)
        return tuple(g[i] for i in self.outputs)

    def _at_inputs(self, gradients: tuple) -> tuple:
        assert self.inputs is not None
        if self.grad_output is None:  # the gradient came past the outputs: that of a gradient taken before
            return gradients
        slots: list[Any] = [None] * self.count
        for i, g in zip(self.inputs, gradients, strict=True):
            slots[i] = g
        for i, t in self.still:
            slots[i] = filled(t.shape, 0.0, t.dtype, t.device)
        g, self.grad_output = self._run(tuple(slots)), None
        return tuple(g[i] for i in self.inputs)

    def _run(self, g: tuple) -> tuple:
        for hook, _ in self.hooks:
            g = _replaced("backward hook", g, hook(self.module, g, self.grad_output))
        return g


def _replaced(what: str, g: tuple, new: Any) -> tuple:
    if new is None:
        return g
    new = new if isinstance(new, tuple) else (new,)
    if len(new) != len(g):
        raise RuntimeError(f"{what}: wanted {len(g)} gradients back, saw {len(new)}")
    return new

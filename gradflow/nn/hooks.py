"""The hooks around a module's forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import Function
from ..op import current
from ..tape import Traced, mode
from ..tensor import RemovableHandle


def add(register: dict, hook: Callable[..., Any], prepend: bool, **options: Any) -> RemovableHandle:
    """Put a hook and its options into a register, before the others or after them."""
    others = list(register.items()) if prepend else []
    if prepend:
        register.clear()
    handle = RemovableHandle(register, (hook, options))  # type: ignore[arg-type]
    register.update(others)
    return handle


def call(module: Any, args: tuple, kwargs: dict) -> Any:
    """module.forward with all its hooks."""
    result, ran = None, set()
    try:
        for hook, options in tuple(module._forward_pre_hooks.values()):
            if options["with_kwargs"]:
                new = hook(module, args, kwargs)
                if new is not None:
                    args, kwargs = new
            else:
                new = hook(module, args)
                if new is not None:
                    args = new if isinstance(new, tuple) else (new,)
        gate = _Gate(module) if module._backward_hooks or module._backward_pre_hooks else None
        if gate is not None:
            args = gate.enter(args)
        result = module.forward(*args, **kwargs)
        for handle, (hook, options) in tuple(module._forward_hooks.items()):
            ran.add(handle)
            new = hook(module, args, kwargs, result) if options["with_kwargs"] else hook(module, args, result)
            if new is not None:
                result = new
        return result if gate is None else gate.leave(result)
    except Exception:
        for handle, (hook, options) in tuple(module._forward_hooks.items()):
            if options["always_call"] and handle not in ran:
                if options["with_kwargs"]:
                    hook(module, args, kwargs, result)
                else:
                    hook(module, args, result)
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

    def enter(self, args: tuple) -> tuple:
        """The arguments, those that are tensors passed through."""
        self.count = len(args)
        where = [i for i, a in enumerate(args) if isinstance(a, Traced)]
        if not mode.enabled or not any(current(args[i]) is not None for i in where):
            return args
        self.inputs = where
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
        for hook, _ in tuple(self.module._backward_pre_hooks.values()):
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
        g, self.grad_output = self._run(tuple(slots)), None
        return tuple(g[i] for i in self.inputs)

    def _run(self, g: tuple) -> tuple:
        for hook, _ in tuple(self.module._backward_hooks.values()):
            g = _replaced("backward hook", g, hook(self.module, g, self.grad_output))
        return g


def _replaced(what: str, g: tuple, new: Any) -> tuple:
    if new is None:
        return g
    new = new if isinstance(new, tuple) else (new,)
    if len(new) != len(g):
        raise RuntimeError(f"{what}: wanted {len(g)} gradients back, saw {len(new)}")
    return new

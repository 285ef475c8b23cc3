"""torch.library and torch.ops: operators that programs register. Here they are the Python functions they are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..autograd import Function


class Operator:
    """A function registered as an operator: calling it calls the function, by the gradient registered for it if one is."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.__name__, self._call = name, function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def register_autograd(self, backward: Callable[..., Any], *, setup_context: Any = None) -> None:
        """Let backward(ctx, *gradients) be the gradient, of what setup_context(ctx, inputs, output) kept."""
        function = self._call

        class Registered(Function):
            @staticmethod
            def forward(*args: Any) -> Any:
                return function(*args)

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                if setup_context is not None:
                    setup_context(ctx, inputs, output)

            @staticmethod
            def backward(ctx: Any, *gradients: Any) -> Any:
                return backward(ctx, *gradients)

        order = inspect.signature(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            given = order.bind(*args, **kwargs)
            given.apply_defaults()
            return Registered.apply(*given.args)

        self._call = call

    def register_kernel(self, device_types: Any, fn: Any = None, /) -> Any:
        """Let another function be called, if it is for the CPU."""
        if fn is None:
            return lambda fn: self.register_kernel(device_types, fn)
        if device_types is None or "cpu" in device_types:
            self._call = fn
        return fn

    def register_fake(self, fn: Any) -> Any:
        """Shapes without values are asked of nobody here."""
        return fn

    register_vmap = register_fake


_registered: dict[str, dict[str, Operator]] = {}  # namespace -> name -> operator


class Operators(dict[str, Operator]):
    """The operators of one namespace, as attributes: torch.ops.NAMESPACE.NAME."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise NotImplementedError(f"gradflow has no such operator in torch.ops: {name}")
        return self[name]


class Spaces(dict[str, Any]):
    """torch.ops: the namespaces in which a program registered operators."""

    def get(self, name: str, default: Any = None) -> Any:
        """The operators of a namespace."""
        return Operators(_registered[name]) if name in _registered else super().get(name, default)


def _enter(space: str, name: str, function: Callable[..., Any]) -> Operator:
    made = _registered.setdefault(space, {})[name] = Operator(name, function)
    return made


def custom_op(name: str, fn: Any = None, /, **options: Any) -> Any:
    """Make a function the operator "namespace::name"; a decorator where it is not given."""
    if fn is None:
        return lambda fn: custom_op(name, fn)
    space, _, own = name.partition("::")
    return _enter(space, own, fn)


def register_autograd(op: Any, backward: Callable[..., Any], /, *, setup_context: Any = None, lib: Any = None) -> None:
    """Give an operator, or the one of this name, a gradient."""
    if isinstance(op, str):
        space, _, own = op.partition("::")
        op = _registered[space][own]
    op.register_autograd(backward, setup_context=setup_context)


class Library:
    """A namespace of operators; a function given for the CPU, or for all devices, is what calling the operator calls."""

    def __init__(self, ns: str, kind: str, dispatch_key: str = "") -> None:
        self.ns, self.kind = ns, kind

    def define(self, schema: str, *args: Any, **kwargs: Any) -> str:
        """The operator's name."""
        return schema.partition("(")[0]

    def impl(self, op_name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Let fn be the operator, if it is for the CPU or for every device."""
        if (args[0] if args else kwargs.get("dispatch_key", "")) in ("", "CPU", "CompositeImplicitAutograd"):
            _enter(self.ns, op_name.rpartition("::")[2], fn)


def _registration(*given: Any, **options: Any) -> Any:
    """A decorator, or its effect where the function is given: nothing."""
    if given and callable(given[-1]) and not isinstance(given[-1], str):
        return given[-1]
    return lambda function: function


register_fake = register_kernel = register_vmap = impl = impl_abstract = register_autocast = _registration
triton_op = custom_op


def load_library(path: str) -> None:
    """OSError: compiled extensions of PyTorch have nothing to hold on to here."""
    raise OSError(f"gradflow has no torch.ops.load_library: {path} is compiled for PyTorch")


def define(*args: Any, **kwargs: Any) -> Any:
    """A decorator that changes nothing."""
    return lambda function: function


class _Keys:
    """The dispatcher's keys: names, of which any may be mentioned."""

    def __getattr__(self, name: str) -> str:
        return name


DispatchKey = _Keys()


def DispatchKeySet(*keys: str) -> frozenset[str]:
    """Keys of the dispatcher, which is not there."""
    return frozenset(keys)


def wrap_triton(kernel: Any) -> Any:
    """The kernel itself."""
    return kernel

"""Module: a function with parameters, buffers and modules inside it, found by walking its attributes' registers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from ..tape import Traced
from ..tensor import RemovableHandle, Tensor
from . import hooks, state
from .moving import Movable
from .parameter import Buffer, Parameter
from .tree import Tree

_HOOKS = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks", "_state_dict_pre_hooks",
    "_state_dict_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip


class Module(Tree, Movable):
    """The base of layers and models. A subclass calls super().__init__(), assigns its parts, and defines forward.

    training   whether layers that behave differently in training (dropout, batch norm) do so; train() and eval() set it
    """

    training: bool
    dump_patches = False
    call_super_init = False  # whether __init__ goes on to the next class, for modules that have a second base
    _version: int = 1  # of its entries in a state_dict
    _since: dict[str, int] = {}  # the version since which an entry is there

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init and (args or kwargs):
            what = f"the argument {next(iter(kwargs))!r}" if kwargs else f"{len(args)} arguments"
            raise TypeError(f"{type(self).__name__}: Module.__init__ takes no arguments, saw {what}")
        d = self.__dict__  # written directly: __setattr__ looks into what is being made here
        d["training"] = True
        d["_parameters"], d["_buffers"], d["_modules"], d["_non_persistent_buffers_set"] = {}, {}, {}, set()
        for name in _HOOKS:
            d[name] = {}
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name in _HOOKS:
            self.__dict__.setdefault(name, {})
        self.__dict__.setdefault("_non_persistent_buffers_set", set())

    # --- calling ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__}: the module has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """forward(), with the hooks around it."""
        d = self.__dict__
        if (
            d["_forward_hooks"]
            or d["_forward_pre_hooks"]
            or d["_backward_hooks"]
            or d["_backward_pre_hooks"]
            or hooks.everywhere
        ):
            return hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    _call_impl = __call__

    def compile(self, *args: Any, **kwargs: Any) -> Self:
        """Itself: there is no compiler; PyTorch's programs call it."""
        return self

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call hook(module, args) before forward; what it returns, if anything, becomes the arguments.

        with_kwargs: hook(module, args, kwargs), which returns None or (args, kwargs). prepend: before the other hooks.
        """
        return hooks.add(self._forward_pre_hooks, hook, prepend, with_kwargs=with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call hook(module, args, output) after forward; what it returns, if anything, becomes the output.

        with_kwargs: hook(module, args, kwargs, output). always_call: also when forward raised, with output None.
        """
        return hooks.add(self._forward_hooks, hook, prepend, with_kwargs=with_kwargs, always_call=always_call)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call hook(module, grad_output) when the gradients of the outputs are known; what it returns replaces them."""
        return hooks.add(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call hook(module, grad_input, grad_output) when the inputs' gradients are known; its result replaces them.

        grad_input has an entry for every positional argument, None for those that are no tensors or need no gradient.
        """
        return hooks.add(self._backward_hooks, hook, prepend)

    register_backward_hook = (
        register_full_backward_hook  # PyTorch's first, deprecated kind saw the last op's inputs only
    )

    # --- registering ------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name for one that is off."""
        self._check_name("register_parameter", name, self._parameters if "_parameters" in self.__dict__ else None)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"register_parameter: wanted a Parameter or None for {name!r}, saw {type(param).__name__}")
        if param is not None and param.grad_fn is not None:
            raise ValueError(f"register_parameter: wanted a leaf for {name!r}, saw the output of {param.grad_fn.name}")
        if hooks.registrations and param is not None:
            param = hooks.registered("parameter", self, name, param)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is no parameter but moves with the module and, if persistent, is part of its state_dict."""
        self._check_name("register_buffer", name, self._buffers if "_buffers" in self.__dict__ else None)
        if tensor is not None and not isinstance(tensor, Traced):
            raise TypeError(f"register_buffer: wanted a tensor or None for {name!r}, saw {type(tensor).__name__}")
        if hooks.registrations and tensor is not None:
            tensor = hooks.registered("buffer", self, name, tensor)
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a child module, as add_module does."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"register_module: wanted a Module or None for {name!r}, saw {type(module).__name__}")
        self._check_name("register_module", name, self._modules if "_modules" in self.__dict__ else None)
        if hooks.registrations and module is not None:
            module = hooks.registered("module", self, name, module)
        self._modules[name] = module

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module, reachable as an attribute."""
        self.register_module(name, module)

    def _check_name(self, what: str, name: Any, register: dict[str, Any] | None) -> None:
        if register is None:
            raise AttributeError(f"{what}: {type(self).__name__}.__init__ must call super().__init__() first")
        if not isinstance(name, str):
            raise TypeError(f"{what}: wanted a name that is a string, saw {type(name).__name__}")
        if "." in name or not name:
            raise KeyError(f"{what}: wanted a name that is not empty and has no dot, saw {name!r}")
        if hasattr(self, name) and name not in register:
            raise KeyError(f"{what}: {type(self).__name__} has an attribute {name!r} already")

    def __setattr__(self, name: str, value: Any) -> None:
        d = self.__dict__
        if isinstance(value, Parameter):
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, "_modules")
            self.register_module(name, value)
        elif isinstance(value, Buffer):
            self._forget(name, "_buffers")
            self.register_buffer(name, value, value.persistent)
        elif name in d.get("_parameters", ()):
            if value is not None:
                raise TypeError(
                    f"setattr: wanted a Parameter or None for the parameter {name!r}, saw {type(value).__name__}"
                )
            d["_parameters"][name] = None
        elif name in d.get("_modules", ()):
            if value is not None:
                raise TypeError(f"setattr: wanted a Module or None for the module {name!r}, saw {type(value).__name__}")
            d["_modules"][name] = None
        elif name in d.get("_buffers", ()):
            if value is not None and not isinstance(value, Traced):
                raise TypeError(f"setattr: wanted a tensor or None for the buffer {name!r}, saw {type(value).__name__}")
            d["_buffers"][name] = value
        else:
            object.__setattr__(self, name, value)

    def _forget(self, name: str, register: str) -> None:
        """Take `name` out of every place but `register`, so that an attribute can change its kind."""
        if register not in self.__dict__:
            raise AttributeError(
                f"setattr: {type(self).__name__}.__init__ must call super().__init__() before it sets {name!r}"
            )
        self.__dict__.pop(name, None)
        for other in ("_parameters", "_buffers", "_modules"):
            if other != register:
                self.__dict__[other].pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __getattr__(self, name: str) -> Any:
        d = self.__dict__  # written out: every forward comes by here for its weights
        if "_parameters" in d and name in (found := d["_parameters"]):
            return found[name]
        if "_modules" in d and name in (found := d["_modules"]):
            return found[name]
        if "_buffers" in d and name in (found := d["_buffers"]):
            return found[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        for register in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__.get(register, ()):
                del self.__dict__[register][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> Iterable[str]:
        return sorted({*object.__dir__(self), *self._parameters, *self._buffers, *self._modules})

    # --- state ------------------------------------------------------------------------------------

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Every parameter and persistent buffer by dotted name, sharing memory; on the tape only if keep_vars."""
        given = dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))  # PyTorch's old way
        destination, prefix = given.get("destination", destination), given.get("prefix", prefix)
        return state.collect(self, destination, prefix, given.get("keep_vars", keep_vars))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy values (tensors or arrays) into parameters and buffers by name; give (missing_keys, unexpected_keys).

        strict   RuntimeError if names are missing or unexpected; a wrong shape is an error in any case.
        assign   take the given tensors themselves instead of copying: dtype and device become theirs.
        An error lists everything that is wrong, and then nothing was changed.
        """
        return state.load(self, state_dict, strict, assign)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put the module's own entries, not those of modules inside, into a state_dict."""
        state.save_own(self, destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take the module's own entries, not those of modules inside, from a state_dict."""
        state.load_own(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def get_extra_state(self) -> Any:
        """More that belongs into the state_dict, under "_extra_state"; define it together with set_extra_state."""
        raise RuntimeError(f"get_extra_state: {type(self).__name__} does not define it")

    def set_extra_state(self, state: Any) -> None:
        """Take up what get_extra_state gave."""
        raise RuntimeError(f"set_extra_state: {type(self).__name__} does not define it")

    def register_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call hook(module, prefix, keep_vars) before this module's entries are collected."""
        return RemovableHandle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call hook(module, state_dict, prefix, local_metadata) when this module's entries are in the state_dict."""
        return RemovableHandle(self._state_dict_hooks, hook)

    _register_state_dict_hook = register_state_dict_post_hook  # one that may give another dict back

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call hook(module, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) before loading.

        state_dict is a copy of the caller's dict that the hook may change: to rename old keys, say.
        """
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., None], with_module: bool = False
    ) -> RemovableHandle:
        return hooks.add(self._load_state_dict_pre_hooks, hook, False, with_module=with_module)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call hook(module, (missing_keys, unexpected_keys)) after loading; it may take keys off those lists."""
        return RemovableHandle(self._load_state_dict_post_hooks, hook)

    # --- switching --------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and in all modules inside."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: wanted a bool, saw {mode!r}")
        self.training = mode
        for module in self.children():  # by their own train(), which a layer that stays frozen defines
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Unset `training` here and in all modules inside."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask, or stop asking, for gradients with respect to all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all parameters' gradients, or set them to zero."""
        for p in self.parameters():
            if p.grad is not None and not set_to_none:
                p.grad.detach_().zero_()
            elif set_to_none:
                p.grad = None

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call fn on all modules inside, then on this one: to initialise, say."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # --- showing ----------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands between the brackets of repr, besides the modules inside."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr().split("\n") if self.extra_repr() else []
        inside = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if not inside and len(extra) <= 1:
            return f"{self._get_name()}({''.join(extra)})"
        return f"{self._get_name()}(\n  " + "\n  ".join([*extra, *inside]) + "\n)"

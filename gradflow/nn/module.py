"""Module: a function with parameters, buffers and modules inside it, found by walking its attributes' registers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from .. import backend
from ..tape import Traced
from ..tensor import RemovableHandle, Tensor
from . import hooks, state
from .parameter import Buffer, Parameter


class Module:
    """The base of layers and models. A subclass calls super().__init__(), assigns its parts, and defines forward.

    training   whether layers that behave differently in training (dropout, batch norm) do so; train() and eval() set it
    """

    training: bool
    _optional_state: tuple[str, ...] = ()  # own entries that a state_dict may lack, because older ones do

    def __init__(self) -> None:
        d = self.__dict__  # written directly: __setattr__ looks into what is being made here
        d["training"] = True
        d["_parameters"], d["_buffers"], d["_modules"], d["_non_persistent"] = {}, {}, {}, set()
        d["_forward_pre_hooks"], d["_forward_hooks"] = {}, {}
        d["_backward_pre_hooks"], d["_backward_hooks"] = {}, {}
        d["_state_dict_hooks"], d["_load_pre_hooks"], d["_load_post_hooks"] = {}, {}, {}

    # --- calling ----------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__}: the module has no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """forward(), with the hooks around it."""
        if self._forward_pre_hooks or self._forward_hooks or self._backward_pre_hooks or self._backward_hooks:
            return hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

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

    # --- registering ------------------------------------------------------------------------------

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter; None keeps the name for one that is off."""
        self._check_name("register_parameter", name, self._parameters if "_parameters" in self.__dict__ else None)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"register_parameter: wanted a Parameter or None for {name!r}, saw {type(param).__name__}")
        if param is not None and param.grad_fn is not None:
            raise ValueError(f"register_parameter: wanted a leaf for {name!r}, saw the output of {param.grad_fn.name}")
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is no parameter but moves with the module and, if persistent, is part of its state_dict."""
        self._check_name("register_buffer", name, self._buffers if "_buffers" in self.__dict__ else None)
        if tensor is not None and not isinstance(tensor, Traced):
            raise TypeError(f"register_buffer: wanted a tensor or None for {name!r}, saw {type(tensor).__name__}")
        self._buffers[name] = tensor
        (self._non_persistent.discard if persistent else self._non_persistent.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a child module, as add_module does."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"register_module: wanted a Module or None for {name!r}, saw {type(module).__name__}")
        self._check_name("register_module", name, self._modules if "_modules" in self.__dict__ else None)
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
        self._non_persistent.discard(name)

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
                self._non_persistent.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> Iterable[str]:
        return sorted({*object.__dir__(self), *self._parameters, *self._buffers, *self._modules})

    # --- walking ----------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module and all inside it, each once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """The module itself and all inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the modules directly inside, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly inside, each once."""
        return (module for _, module in self.named_children())

    def _named(self, register: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        seen: set[int] = set()
        for where, module in modules:
            for name, t in module.__dict__[register].items():
                if t is None or (remove_duplicate and id(t) in seen):
                    continue
                seen.add(id(t))
                yield (f"{where}.{name}" if where else name), t

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of all parameters, each once."""
        return self._named("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once: what an optimizer is given."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) of all buffers, each once."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module of a dotted name; this one for "". AttributeError if there is none."""
        module = self
        for step in target.split(".") if target else ():
            inside = module._modules.get(step)
            if inside is None:
                raise AttributeError(f"get_submodule: {type(module).__name__} has no module {step!r} (of {target!r})")
            module = inside
        return module

    def set_submodule(self, target: str, module: Module) -> None:
        """Put `module` in the place of the module of a dotted name. AttributeError if there is none."""
        if not target:
            raise ValueError("set_submodule: wanted a dotted name, saw ''")
        self.get_submodule(target)
        path, _, name = target.rpartition(".")
        self.get_submodule(path).register_module(name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter of a dotted name. AttributeError if there is none."""
        return self._get("_parameters", "get_parameter", target)

    def get_buffer(self, target: str) -> Tensor:
        """The buffer of a dotted name. AttributeError if there is none."""
        return self._get("_buffers", "get_buffer", target)

    def _get(self, register: str, what: str, target: str) -> Any:
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path).__dict__[register].get(name)
        if found is None:
            raise AttributeError(f"{what}: there is no {register[1:-1]} {target!r} in {type(self).__name__}")
        return found

    # --- state ------------------------------------------------------------------------------------

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """Every parameter and persistent buffer by dotted name, sharing memory; on the tape only if keep_vars."""
        return state.collect(self, {} if destination is None else destination, prefix, keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> state.Keys:
        """Copy values (tensors or arrays) into parameters and buffers by name; give (missing_keys, unexpected_keys).

        strict   RuntimeError if names are missing or unexpected; a wrong shape is an error in any case.
        assign   take the given tensors themselves instead of copying: dtype and device become theirs.
        An error lists everything that is wrong, and then nothing was changed.
        """
        return state.load(self, state_dict, strict, assign)

    def get_extra_state(self) -> Any:
        """More that belongs into the state_dict, under "_extra_state"; define it together with set_extra_state."""
        raise RuntimeError(f"get_extra_state: {type(self).__name__} does not define it")

    def set_extra_state(self, state: Any) -> None:
        """Take up what get_extra_state gave."""
        raise RuntimeError(f"set_extra_state: {type(self).__name__} does not define it")

    def register_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call hook(module, state_dict, prefix, local_metadata) when this module's entries are in the state_dict."""
        return RemovableHandle(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call hook(module, state_dict, prefix, local_metadata, strict, missing, unexpected, errors) before loading.

        state_dict is a copy of the caller's dict that the hook may change: to rename old keys, say.
        """
        return RemovableHandle(self._load_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Call hook(module, (missing_keys, unexpected_keys)) after loading; it may take keys off those lists."""
        return RemovableHandle(self._load_post_hooks, hook)

    # --- switching --------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and in all modules inside."""
        if not isinstance(mode, bool):
            raise ValueError(f"train: wanted a bool, saw {mode!r}")
        for module in self.modules():
            module.training = mode
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

    # --- moving -----------------------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """Let every parameter, gradient and buffer be fn of itself. Parameters stay the same objects."""
        for module in self.modules():
            for p in module._parameters.values():
                if p is not None:
                    for t in (p,) if p.grad is None else (p, p.grad):
                        moved = fn(t.data)
                        if moved.array is not t.array:
                            t.data = moved
            for name, b in module._buffers.items():
                if b is not None:
                    module._buffers[name] = fn(b)
        return self

    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> Self:
        """Move to a device and/or cast what is floating, given a device, a dtype, both, or a tensor that has them."""
        for a in args:
            if isinstance(a, Traced):
                dtype, device = a.array.dtype, backend.device_of(a.array)
            elif isinstance(a, backend.device) or (isinstance(a, str) and a.startswith(("cpu", "cuda"))):
                device = a
            elif isinstance(a, bool):
                non_blocking = a
            elif a is not None:
                dtype = a
        if dtype is not None:
            dtype = np.dtype(dtype)
            if not backend.is_differentiable(dtype):
                raise TypeError(f"to: wanted a floating or complex dtype, saw {dtype}")

        def move(t: Tensor) -> Tensor:
            cast = dtype if dtype is not None and backend.is_differentiable(t.array.dtype) else None
            return t.to(device=device, dtype=cast, non_blocking=non_blocking)

        return self._apply(move)

    def cpu(self) -> Self:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Move to the card."""
        return self.to(backend.device("cuda", device) if isinstance(device, int) else device or "cuda")

    def type(self, dst_type: Any) -> Self:
        """Cast all parameters and buffers, integers too."""
        return self._apply(lambda t: t.to(np.dtype(dst_type)))

    def _cast(self, dtype: np.dtype) -> Self:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self) -> Self:
        """Cast what is floating to float32."""
        return self._cast(backend.float32)

    def double(self) -> Self:
        """Cast what is floating to float64."""
        return self._cast(backend.float64)

    def half(self) -> Self:
        """Cast what is floating to float16."""
        return self._cast(backend.float16)

    def bfloat16(self) -> Self:
        """Cast what is floating to bfloat16."""
        return self._cast(backend.bfloat16())

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

"""The tree of modules: walking over what is inside a module, and finding parts by dotted names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..tensor import Tensor
from .parameter import Parameter

if TYPE_CHECKING:
    from .module import Module


class Tree:
    """The part of Module that looks inside: _parameters, _buffers and _modules are its registers."""

    _modules: dict[str, Any]

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

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """The module itself and all inside it, each once."""
        return (module for _, module in self.named_modules(remove_duplicate=remove_duplicate))

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
        return self._named_members(lambda m: m.__dict__[register].items(), prefix, recurse, remove_duplicate)

    def _named_members(
        self,
        get_members_fn: Callable[[Any], Any],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        """(dotted name, member) of what a function finds in each module: PyTorch's programs walk registers of their own so."""
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for where, module in modules:
            for name, member in get_members_fn(module):
                if member is None or (remove_duplicate and id(member) in seen):
                    continue
                seen.add(id(member))
                yield (f"{where}.{name}" if where else name), member

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

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put `module` at a dotted name, in the place of what is there; strict: something must be there.

        AttributeError if there is no module to put it in, if strict and nothing is there, or if what is there is none.
        """
        from .module import Module

        if not target:
            raise ValueError("set_submodule: wanted a dotted name, saw ''")
        if not isinstance(module, Module):
            raise ValueError(f"set_submodule: wanted a Module, saw {type(module).__name__}")
        path, _, name = target.rpartition(".")
        inside = self.get_submodule(path)
        if strict and not hasattr(inside, name):
            raise AttributeError(f"set_submodule: {type(inside).__name__} has nothing named {name!r} (of {target!r})")
        if hasattr(inside, name) and not isinstance(getattr(inside, name), Module):
            raise AttributeError(f"set_submodule: {name!r} of {type(inside).__name__} is no module")
        inside.register_module(name, module)

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

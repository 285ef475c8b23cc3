"""Modules and parameters held in a row, a list or a dict."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import index
from typing import Any, Self

from ..printing import dtype_text
from ..tape import Traced
from ..tensor import Tensor
from .module import Module
from .parameter import Parameter


def _place(what: str, i: Any, n: int) -> int:
    i = index(i)
    if not -n <= i < n:
        raise IndexError(f"{what}: wanted an index below {n}, saw {i}")
    return i % n


class Container(Module):
    """Modules by name, as the arguments give them: what programs used before they had Module. It has no forward."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        warnings.warn("Container: it is deprecated; use Module", stacklevel=2)
        for name, module in kwargs.items():
            self.add_module(name, module)


class _Row(Module):
    """Modules in order, named "0", "1", ...: what Sequential and ModuleList share."""

    def _renumber(self, modules: Iterable[Module]) -> None:
        modules = list(modules)
        self._modules.clear()
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def __getitem__(self, i: Any) -> Any:
        inside = list(self._modules.items())
        if isinstance(i, slice):
            return self._part(dict(inside[i]))
        return inside[_place(type(self).__name__, i, len(inside))][1]

    def _part(self, modules: dict[str, Module]) -> Any:
        return type(self)(modules.values())  # type: ignore[call-arg]

    def __setitem__(self, i: Any, module: Module) -> None:
        self.register_module(list(self._modules)[_place(type(self).__name__, i, len(self))], module)

    def __delitem__(self, i: Any) -> None:
        names = list(self._modules)
        for name in names[i] if isinstance(i, slice) else [names[_place(type(self).__name__, i, len(names))]]:
            del self._modules[name]
        self._renumber(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._modules.values()))

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before place `index`."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add several modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def pop(self, i: int | slice = -1) -> Any:
        """Take a module out and give it."""
        module = self[i]
        del self[i]
        return module


class Sequential(_Row):
    """Modules one after the other: Sequential(a, b)(x) = b(a(x)). Also Sequential({"first": a, "then": b})."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], Mapping) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        """Run the modules in order."""
        for module in self._modules.values():
            input = module(input)
        return input

    def _part(self, modules: dict[str, Module]) -> Sequential:
        return type(self)(modules)

    def __add__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential: wanted a Sequential to add, saw {type(other).__name__}")
        return Sequential(*self, *other)

    def __mul__(self, times: int) -> Sequential:
        if not isinstance(times, int):
            raise TypeError(f"Sequential: wanted an int to multiply with, saw {type(times).__name__}")
        if times <= 0:
            raise ValueError(f"Sequential: wanted a positive int to multiply with, saw {times}")
        return Sequential(*[module for _ in range(times) for module in self])

    __rmul__ = __mul__

    def __imul__(self, times: int) -> Self:
        if not isinstance(times, int):
            raise TypeError(f"Sequential: wanted an int to multiply with, saw {type(times).__name__}")
        if times <= 0:
            raise ValueError(f"Sequential: wanted a positive int to multiply with, saw {times}")
        return self.extend([module for _ in range(times - 1) for module in list(self)])


class ModuleList(_Row):
    """A list of modules that are all registered; it has no forward."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def insert(self, index: int, module: Module) -> None:
        """Add a module before place `index`."""
        super().insert(index, module)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList(chain(self, other))

    def __repr__(self) -> str:
        """As any module, but equal neighbours are shown once: (0-5): 6 x Linear(...)."""
        if not len(self):
            return f"{self._get_name()}()"
        runs: list[tuple[int, int, str]] = []
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        lines = [f"({a}): {t}" if a == b else f"({a}-{b}): {b - a + 1} x {t}" for a, b, t in runs]
        return f"{self._get_name()}(\n  " + "\n".join(lines).replace("\n", "\n  ") + "\n)"


class ModuleDict(Module):
    """A dict of modules that are all registered; it has no forward."""

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Any) -> None:
        """Add or replace modules, from a dict or from (name, module) pairs."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"ModuleDict: wanted a dict or (name, module) pairs, saw {type(modules).__name__}")
        for name, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self[name] = module

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Take all modules out."""
        self._modules.clear()

    def pop(self, key: str) -> Module:
        """Take a module out and give it."""
        return self._modules.pop(key)

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def items(self) -> Any:
        """(name, module) pairs."""
        return self._modules.items()


def _as_parameter(value: Any) -> Any:
    """A plain tensor as a parameter, as PyTorch's parameter containers take it; anything else as it is."""
    return Parameter(value) if isinstance(value, Traced) and not isinstance(value, Parameter) else value


def _shown(key: Any, value: Any, kind: str) -> str:
    """A line about an entry, `kind` its element's type as its container shows it."""
    if not isinstance(value, Tensor):
        return f"  ({key}): Object of type: {type(value).__name__}"
    name = "Parameter" if isinstance(value, Parameter) else "Tensor"
    where = f" ({value.device})" if value.is_cuda else ""
    sizes = "x".join(map(str, value.array.shape))
    return f"  ({key}): {name} containing: [{kind} of size {sizes}{where}]"


class ParameterList(Module):
    """A list of parameters that are all registered; tensors put into it become parameters."""

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        self.extend(values or ())

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return type(self)([self[j] for j in range(*i.indices(len(self)))])
        return getattr(self, str(_place("ParameterList", i, len(self))))

    def __setitem__(self, i: Any, value: Any) -> None:
        setattr(self, str(_place("ParameterList", i, len(self))), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter([self[i] for i in range(len(self))])

    def append(self, value: Any) -> Self:
        """Add a value at the end."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Add several values at the end."""
        if not isinstance(values, Iterable) or isinstance(values, Traced):
            raise TypeError(f"ParameterList: wanted several values to extend by, saw {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def extra_repr(self) -> str:
        """A line for every entry."""
        return "\n".join(
            _shown(i, p, dtype_text(p.array.dtype) if isinstance(p, Tensor) else "") for i, p in enumerate(self)
        )


class ParameterDict(Module):
    """A dict of parameters that are all registered; tensors put into it become parameters."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        self.update(parameters or {})

    def update(self, parameters: Any) -> None:
        """Add or replace values, from a dict (a plain one in the order of its sorted names) or from (name, value) pairs."""
        if not isinstance(parameters, Iterable) or isinstance(parameters, Traced):
            raise TypeError(f"ParameterDict: wanted a dict or (name, value) pairs, saw {type(parameters).__name__}")
        pairs: Any = parameters
        if isinstance(parameters, (Mapping, ParameterDict)):
            ordered = isinstance(parameters, (OrderedDict, ParameterDict))
            pairs = [(k, parameters[k]) for k in (parameters if ordered else sorted(parameters))]
        for key, value in pairs:
            self[key] = value

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"ParameterDict: wanted a name that is a string, saw {type(key).__name__}")
        setattr(self, key, _as_parameter(value))
        self._keys[key] = None

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._keys)

    def __or__(self, other: ParameterDict) -> ParameterDict:
        both = self.copy()
        both.update(other)
        return both

    def __ror__(self, other: ParameterDict) -> ParameterDict:
        both = other.copy()
        both.update(self)
        return both

    def __ior__(self, other: ParameterDict) -> Self:
        self.update(other)
        return self

    def copy(self) -> ParameterDict:
        """A dict of the same parameters."""
        return ParameterDict(OrderedDict(self.items()))

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A dict that has the default under each of the keys."""
        return ParameterDict([(k, default) for k in keys])

    def popitem(self) -> tuple[str, Any]:
        """Take the last (name, value) pair out and give it. KeyError if there is none."""
        if not self._keys:
            raise KeyError("ParameterDict: it is empty")
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def clear(self) -> None:
        """Take all values out."""
        for key in list(self._keys):
            del self[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a name, or the default."""
        return self[key] if key in self._keys else default

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of a name, which becomes the default if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Take a value out and give it."""
        value = self[key]
        del self[key]
        return value

    def keys(self) -> Any:
        """The names."""
        return self._keys.keys()

    def values(self) -> Any:
        """The values."""
        return [self[k] for k in self._keys]

    def items(self) -> Any:
        """(name, value) pairs."""
        return [(k, self[k]) for k in self._keys]

    def extra_repr(self) -> str:
        """A line for every entry."""
        return "\n".join(_shown(k, p, p.type() if isinstance(p, Tensor) else "") for k, p in self.items())

"""Parameters computed from others: weight = f(original), for any module f that is registered on a module's tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ...autograd import no_grad
from ...tape import Traced
from ..container import ModuleDict, ModuleList
from ..module import Module
from ..parameter import Parameter

_depth = 0  # of cached() contexts
_cache: dict[tuple[int, str], Any] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Within it, each parametrized tensor is computed once, when first asked for."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _cache.clear()


def _store(module: Module, name: str, value: Any, parameter: bool, requires_grad: bool) -> None:
    """Put a tensor into a module as a parameter or a buffer."""
    if parameter:
        own = value if isinstance(value, Parameter) else Parameter(value, requires_grad)
        module.register_parameter(name, own)
    else:
        module.register_buffer(name, value)


class ParametrizationList(ModuleList):
    """The functions that make a tensor, one after the other, and the tensor, or tensors, that they make it from.

    original               the tensor, where the last right_inverse gives one
    original0, original1   the tensors, where it gives several
    """

    def __init__(self, modules: Sequence[Module], original: Any, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("ParametrizationList: wanted at least one parametrization, saw none")
        super().__init__(modules)
        self.unsafe = unsafe
        parameter, wanted = isinstance(original, Parameter), original.requires_grad
        shape, dtype = tuple(original.shape), original.dtype
        with no_grad():
            new = original
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    with suppress(NotImplementedError):  # none for its setting: the tensor starts as it is
                        new = module.right_inverse(new)
        if not isinstance(new, Traced) and not isinstance(new, Sequence):
            raise ValueError(
                f"register_parametrization: wanted a tensor or several from right_inverse, saw {type(new).__name__}"
            )
        self.is_tensor = isinstance(new, Traced)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            if new.dtype != dtype:
                raise ValueError(
                    f"register_parametrization: wanted a tensor of {dtype} from right_inverse, saw {new.dtype}"
                )
            if new is not original:
                original.data = new.detach()  # the same object, which an optimizer may hold
            _store(self, "original", original, parameter, wanted)
        else:
            for i, tensor in enumerate(new):
                if not isinstance(tensor, Traced):
                    raise ValueError(
                        f"register_parametrization: wanted tensors from right_inverse, saw {type(tensor).__name__}"
                    )
                _store(self, f"original{i}", tensor.detach(), parameter, wanted)
        if not unsafe:
            made = self()
            if not isinstance(made, Traced):
                raise ValueError(f"register_parametrization: wanted a tensor made, saw {type(made).__name__}")
            if made.dtype != dtype or tuple(made.shape) != shape:
                raise ValueError(
                    f"register_parametrization: wanted {dtype} of shape {shape} made, saw {made.dtype} of shape "
                    f"{tuple(made.shape)}; pass unsafe=True to allow it"
                )

    def _originals(self) -> list[Any]:
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def forward(self) -> Any:
        """The tensor."""
        first, *rest = self
        x = first(*self._originals())
        for module in rest:
            x = module(x)
        return x

    def right_inverse(self, value: Any) -> None:
        """Set the originals so that they make `value`, by the right_inverse of every parametrization."""
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrize: {type(module).__name__} has no right_inverse to assign through")
                value = module.right_inverse(value)
            values = [value] if self.is_tensor else list(value)
            if len(values) != self.ntensors:
                raise ValueError(f"parametrize: wanted {self.ntensors} tensors from right_inverse, saw {len(values)}")
            for own, v in zip(self._originals(), values, strict=True):
                if not isinstance(v, Traced):
                    raise ValueError(f"parametrize: wanted a tensor from right_inverse, saw {type(v).__name__}")
                if own.dtype != v.dtype:
                    raise ValueError(f"parametrize: wanted {own.dtype} from right_inverse, saw {v.dtype}")
                own.data = v.clone().detach() if v.array is own.array else v.detach()


def _property(name: str) -> property:
    def get(self: Any) -> Any:
        key = (id(self), name)
        if _depth and key in _cache:
            return _cache[key]
        value = self.parametrizations[name]()
        if _depth:
            _cache[key] = value
        return value

    def put(self: Any, value: Any) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, put)


def _dress(module: Any) -> None:
    """Give the module a class of its own, whose properties are its parametrized tensors; its first one if there are none.

    Its own: a copy of the module has the same class, and other parametrizations later.
    """
    kind, names = getattr(type(module), "_plain", type(module)), list(module.parametrizations)
    properties = {name: _property(name) for name in names}
    module.__class__ = kind
    if names:
        more = {"__module__": kind.__module__, "_plain": kind}
        module.__class__ = type(f"Parametrized{kind.__name__}", (kind,), {**more, **properties})


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Let module.<tensor_name> be parametrization(original), and after it any registered before.

    original is trained in its place, and is in the state_dict as parametrizations.<tensor_name>.original. Assigning to the
    tensor assigns right_inverse of the value. unsafe allows another shape or dtype. ValueError where these do not fit.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            before = getattr(module, tensor_name)
            made = parametrization(before)
            if not isinstance(made, Traced):
                raise ValueError(f"register_parametrization: wanted a tensor made, saw {type(made).__name__}")
            if made.dtype != before.dtype or made.shape != before.shape:
                raise ValueError(
                    f"register_parametrization: wanted {before.dtype} of shape {tuple(before.shape)} made, saw "
                    f"{made.dtype} of shape {tuple(made.shape)}; pass unsafe=True to allow it"
                )
            if hasattr(parametrization, "right_inverse"):
                try:
                    back = parametrization.right_inverse(made)
                except NotImplementedError:
                    back = made
                if not isinstance(back, Traced) or back.dtype != made.dtype or back.shape != made.shape:
                    raise ValueError(
                        "register_parametrization: wanted right_inverse of a further parametrization to give "
                        f"{made.dtype} of shape {tuple(made.shape)}"
                    )
        parts: Any = module.parametrizations
        parts[tensor_name].append(parametrization)
        parts[tensor_name].unsafe |= unsafe
        return module
    register = next((r for r in ("_parameters", "_buffers") if tensor_name in module.__dict__[r]), None)
    if register is None:
        raise ValueError(
            f"register_parametrization: {type(module).__name__} has no parameter, buffer or parametrized tensor "
            f"{tensor_name!r}"
        )
    parametrizations = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        module.parametrizations = ModuleDict()
    parts = module.parametrizations
    parts[tensor_name] = parametrizations
    _dress(module)
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether any tensor of the module, or the one of this name, is parametrized."""
    parts = module._modules.get("parametrizations")
    if not isinstance(parts, ModuleDict):
        return False
    return tensor_name in parts if tensor_name is not None else len(parts) > 0


def type_before_parametrizations(module: Module) -> type:
    """The class that the module had before anything was parametrized."""
    return getattr(type(module), "_plain", type(module))


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make the tensor a plain one again: with the value it has now, or that of the original.

    ValueError if it is not parametrized, or if the original is asked for and there are several.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"remove_parametrizations: {type(module).__name__} has no parametrization on {tensor_name!r}")
    parts: Any = module.parametrizations
    part = parts[tensor_name]
    originals = part._originals()
    parameter, wanted = isinstance(originals[0], Parameter), any(o.requires_grad for o in originals)
    if leave_parametrized:
        with no_grad():
            value = getattr(module, tensor_name)
        if part.is_tensor and value.dtype == originals[0].dtype:
            originals[0].data = value.clone() if value is not originals[0] else value
            plain = originals[0]  # the same object, which an optimizer may hold
        else:
            plain = Parameter(value.clone(), wanted) if parameter else value.clone()
    elif part.is_tensor:
        plain = originals[0]
    else:
        raise ValueError(
            "remove_parametrizations: wanted leave_parametrized=True where a tensor is made from several, saw False"
        )
    del parts[tensor_name]
    _dress(module)
    if not len(parts):
        del module.parametrizations
    _store(module, tensor_name, plain, parameter, wanted)
    return module


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Give one module the parametrizations, and their parameters, of another: of all its tensors or of one."""
    import copy

    if not is_parametrized(from_module):
        return to_module
    source: Any = from_module.parametrizations
    for name in [tensor_name] if tensor_name is not None else list(source):
        if not hasattr(to_module, name):
            register = "_parameters" if isinstance(source[name]._originals()[0], Parameter) else "_buffers"
            value = getattr(from_module, name).detach().clone()
            _store(to_module, name, value, register == "_parameters", True)
        for function in source[name]:
            register_parametrization(to_module, name, copy.deepcopy(function), unsafe=True)
        target: Any = to_module.parametrizations
        for own, theirs in zip(target[name]._originals(), source[name]._originals(), strict=True):
            own.data = theirs.detach().clone()
    return to_module

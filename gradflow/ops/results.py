"""Results with named parts: tuples that print as PyTorch's return types do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Named = TypeVar("Named", bound=type)

RETURNED: dict[str, type] = {}  # by PyTorch's name for them


def shown(result: Any, name: str) -> str:
    """A result as text: torch.return_types.NAME(part=..., ...), a part to a line."""
    from ..printing import package

    parts = ",\n".join(f"{n}={v!r}" for n, v in zip(result._fields, result, strict=True))
    return f"{package}.return_types.{name}(\n{parts})"


def returned(name: str) -> Callable[[Named], Named]:
    """Decorate the class of what the function of this name returns."""

    def enter(cls: Named) -> Named:
        cls.__repr__ = lambda self: shown(self, name)  # type: ignore[assignment]
        RETURNED[name] = cls
        return cls

    return enter

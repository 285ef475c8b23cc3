"""What stands for a name that gradflow does not have: it may be imported and mentioned, and says so when it is used."""

from __future__ import annotations

from typing import Any, NoReturn


class Missing:
    """torch.X where gradflow has no X. NotImplementedError when called or subclassed, AttributeError for its attributes."""

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"gradflow has no {self.__name__}")

    __call__ = __mro_entries__ = __iter__ = __enter__ = __bool__ = __len__ = __int__ = __float__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"gradflow has no {self.__name__}" + ("" if name.startswith("__") else f".{name}"))

    # isinstance(x, torch.X): nothing can be one. torch.X | None, torch.X[int]: annotations only mention it.
    def __instancecheck__(self, x: object) -> bool:
        return False

    def __subclasscheck__(self, cls: type) -> bool:
        return False

    def __or__(self, other: Any) -> Missing:
        return self

    __ror__ = __getitem__ = __or__

    def __repr__(self) -> str:
        return f"<gradflow has no {self.__name__}>"

    def __reduce__(self) -> Any:
        return missing, (self.__name__,)


_made: dict[str, Missing] = {}


def missing(name: str) -> Missing:
    """The one Missing of this name."""
    return _made.setdefault(name, Missing(name))

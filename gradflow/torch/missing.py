"""What stands for a name that gradflow does not have: it may be imported, mentioned and subclassed, and says so when used."""

from __future__ import annotations

import dis
import sys
from types import FrameType
from typing import Any, NoReturn

_MENTIONS = {"LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM", "LOAD_SUPER_ATTR"}


def mentions(frame: FrameType) -> bool:
    """Whether a frame's current instruction reads a name as `torch.X` or `from torch import X` do, and not hasattr."""
    if frame.f_code.co_name == "_handle_fromlist":  # the part of `from torch import X` that importlib does
        return True
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] in _MENTIONS


class Missing:
    """torch.X where gradflow has no X; its attributes are missing too. NotImplementedError when it, or a class derived from
    it, is called, or asked for its truth, length or number.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"gradflow has no {self.__name__}")

    def __mro_entries__(self, bases: tuple) -> tuple[type]:
        # Programs derive classes at import that they may never make an instance of.
        return (type(self.__name__.rpartition(".")[2], (), {"__new__": self._refuse, "__module__": "torch"}),)

    __call__ = __iter__ = __enter__ = __bool__ = __len__ = __int__ = __float__ = _refuse

    def __getattr__(self, name: str) -> Missing:
        if not name.startswith("__") and mentions(sys._getframe(1)):
            return missing(f"{self.__name__}.{name}")
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

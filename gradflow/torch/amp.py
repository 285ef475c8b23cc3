"""torch.amp as long as it is switched off: autocast and GradScaler that change nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any, Self

from ..backend import card


def _on(what: str, enabled: bool, where: str) -> bool:
    """Whether it is enabled; without a card what is for a card is switched off, with PyTorch's warning."""
    if enabled and where == "cuda" and card() is None:
        warnings.warn(f"{what}: there is no card, it is switched off", UserWarning, stacklevel=3)
        return False
    return enabled


class autocast(ContextDecorator):
    """A block of mixed precision. NotImplementedError where it is enabled."""

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None) -> None:
        if _on("torch.autocast", enabled, device_type):
            raise NotImplementedError("gradflow has no torch.amp.autocast(enabled=True)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class GradScaler:
    """Scales losses where it is enabled, which is NotImplementedError here; switched off it changes nothing."""

    def __init__(
        self, device: str = "cuda", init_scale: float = 65536.0, growth_factor: float = 2.0, backoff_factor: float = 0.5,
        growth_interval: int = 2000, enabled: bool = True,
    ) -> None:  # fmt: skip
        if _on("torch.amp.GradScaler", enabled, device):
            raise NotImplementedError("gradflow has no torch.amp.GradScaler(enabled=True)")

    def scale(self, outputs: Any) -> Any:
        """The outputs."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimizer's step."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Nothing."""

    def is_enabled(self) -> bool:
        """False."""
        return False

    def get_scale(self) -> float:
        """1."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""


def custom_fwd(fwd: Any = None, **kwargs: Any) -> Callable[..., Any]:
    """The function itself."""
    return fwd if fwd is not None else lambda function: function


custom_bwd = custom_fwd


def is_autocast_available(device_type: str) -> bool:
    """False."""
    return False


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """False."""
    return False

"""torch.utils.tensorboard: a writer that writes nothing, so that programs which log run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Self


class SummaryWriter:
    """Takes what it is given and writes nothing; says so once."""

    def __init__(self, log_dir: Any = None, *args: Any, **kwargs: Any) -> None:
        warnings.warn("gradflow: torch.utils.tensorboard.SummaryWriter writes nothing", stacklevel=2)
        self.log_dir = str(log_dir) if log_dir is not None else "runs"

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("add_"):
            raise AttributeError(f"gradflow has no torch.utils.tensorboard.SummaryWriter.{name}")
        return lambda *args, **kwargs: None

    def get_logdir(self) -> str:
        """The folder that would hold what was written."""
        return self.log_dir

    def flush(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

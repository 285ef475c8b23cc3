"""Where the numbers of a training go besides the terminal: listeners for train.fit(on_epoch=...)."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

__all__ = ["CSVLog", "TensorBoardLog"]


class CSVLog:
    """Writes a line for each epoch to a file: train.fit(..., on_epoch=CSVLog("log.csv")).

    The first line names the quantities. A file that is there is gone on with if its names are the same, and then lines of
    epochs that come again are replaced. ValueError if its names are others.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, epoch: int, values: dict[str, float]) -> None:
        """Note an epoch."""
        names = ["epoch", *values]
        rows: list[list[str]] = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                head, *rows = list(csv.reader(file)) or [names]
            if head != names:
                raise ValueError(f"CSVLog: wanted a file of {', '.join(names)}, saw {self.path} of {', '.join(head)}")
        rows = [r for r in rows if int(r[0]) < epoch]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        with part.open("w", newline="") as file:
            csv.writer(file).writerows([names, *rows, [epoch, *values.values()]])
        part.replace(self.path)

    def close(self) -> None:
        """Nothing: every line is written at once."""


class TensorBoardLog:
    """Writes each epoch's numbers where TensorBoard looks: train.fit(..., on_epoch=TensorBoardLog("out/board")).
    ImportError without the package tensorboardX.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as e:
            raise ImportError("TensorBoardLog needs the package tensorboardX: pip install tensorboardX") from e
        self.writer: Any = SummaryWriter(os.fspath(folder))

    def __call__(self, epoch: int, values: dict[str, float]) -> None:
        """Note an epoch."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Write what is still on its way."""
        self.writer.close()

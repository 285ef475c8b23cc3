"""Averages of a model's weights along its training: equal ones (SWA), exponential ones (EMA), or of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

import numpy as np

from .. import backend
from ..autograd import no_grad
from ..backend import is_differentiable
from ..nn.module import Module
from ..nn.norm import _BatchNorm
from ..op import wrap
from ..ops import shape as shapes
from .lr_scheduler.schedule import LRScheduler, per_group, within_step
from .optimizer import Optimizer, pairs, real
from .update import blend, many

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
    "update_bn",
]  # fmt: skip


def _blend_all(averages: Iterable[Any], tensors: Iterable[Any], weight: float) -> None:
    """Move averages, floating or complex tensors, towards others: in one launch for all of one kind on the card."""
    kinds: dict[tuple, tuple[list, list]] = {}
    for a, t in zip(averages, tensors, strict=True):
        x, y = a.array, t.array.astype(a.array.dtype, copy=False)
        if not is_differentiable(x.dtype):
            x[...] = x + weight * (y - x)
        elif x.size:
            parts = real if x.flags.c_contiguous and y.flags.c_contiguous else pairs
            xs, ys = kinds.setdefault((str(a.device), x.dtype), ([], []))
            xs.append(parts(x) if x.dtype.kind == "c" else x)
            ys.append(parts(y) if x.dtype.kind == "c" else y)
        a.version.bump()
    for xs, ys in kinds.values():
        many(blend, xs, ys, [], weight)


def _decay(decay: float) -> None:
    if not 0 <= decay <= 1:
        raise ValueError(f"ema: wanted a decay in [0, 1], saw {decay}")


def get_ema_avg_fn(decay: float = 0.999) -> Callable[[Any, Any, Any], Any]:
    """A function (average, current, count) that gives decay average + (1 - decay) current. ValueError outside [0, 1]."""
    _decay(decay)

    def ema(average: Any, current: Any, count: Any) -> Any:
        with no_grad():
            return decay * average + (1 - decay) * current

    return ema


def get_swa_avg_fn() -> Callable[[Any, Any, Any], Any]:
    """A function (average, current, count) that gives average + (current - average) / (count + 1)."""

    def swa(average: Any, current: Any, count: Any) -> Any:
        with no_grad():
            return average + (current - average) / (count + 1)

    return swa


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[[Any, Any, Any], None]:
    """A function (averages, currents, count) that writes decay average + (1 - decay) current into every average."""
    _decay(decay)
    return lambda averages, currents, count: _blend_all(averages, currents, 1 - decay)


def get_swa_multi_avg_fn() -> Callable[[Any, Any, Any], None]:
    """A function (averages, currents, count) that writes average + (current - average) / (count + 1) into every average."""
    return lambda averages, currents, count: _blend_all(averages, currents, 1 / (int(count) + 1))


class AveragedModel(Module):
    """A copy of a model whose parameters are an average: of those the model has at each update_parameters(model).

    device         where the copy lives
    avg_fn         (average, current, count) -> the new average, count how many went into the old one
    multi_avg_fn   (averages, currents, count), for all tensors of one kind, which writes into the averages
    use_buffers    average the buffers too; else they are the model's as last seen
    Without a function the average is equal: all weights the same. The first update copies. The state_dict has the
    copy's names after "module.", and "n_averaged". AssertionError for both functions.
    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018.
    """

    def __init__(
        self, model: Module, device: Any = None, avg_fn: Callable[..., Any] | None = None,
        multi_avg_fn: Callable[..., None] | None = None, use_buffers: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("AveragedModel: wanted avg_fn or multi_avg_fn, saw both")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        count = wrap(np.zeros((), np.int64))
        self.register_buffer("n_averaged", count if device is None else count.to(device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model gives."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the model's weights into the average. RuntimeError while a graph is captured: its replays would not count."""
        if backend.capture.graph is not None:
            raise RuntimeError("AveragedModel: wanted update_parameters() after a step that is captured, saw it inside")
        if self.use_buffers:
            averages = list(chain(self.module.parameters(), self.module.buffers()))
            currents = list(chain(model.parameters(), model.buffers()))
        else:
            averages, currents = list(self.parameters()), list(model.parameters())
        with no_grad():
            currents = [shapes.move(t.detach(), a.device) for a, t in zip(averages, currents, strict=False)]
            averages = [a.detach() for a in averages]
            self._take(averages, currents)
            if not self.use_buffers:
                for a, t in zip(self.module.buffers(), model.buffers(), strict=True):
                    a.detach().copy_(t.detach())
            self.n_averaged += 1

    def _take(self, averages: list[Any], currents: list[Any]) -> None:
        if self.n_averaged.item() == 0:
            for a, t in zip(averages, currents, strict=True):
                a.copy_(t)
        elif self.avg_fn is not None:
            for a, t in zip(averages, currents, strict=True):
                a.copy_(self.avg_fn(a, t, shapes.move(self.n_averaged, a.device)))
        else:
            kinds: dict[tuple, tuple[list, list]] = {}
            for a, t in zip(averages, currents, strict=True):
                pair = kinds.setdefault((str(a.device), a.dtype), ([], []))
                pair[0].append(a)
                pair[1].append(t)
            for some, theirs in kinds.values():
                (self.multi_avg_fn or get_swa_multi_avg_fn())(some, theirs, self.n_averaged)


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Estimate the running mean and variance of every batch normalization anew, by one pass over the loader's batches.

    A batch is a tensor, or a list or tuple that begins with one. All batches count the same.
    """
    norms = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm)}
    if not norms:
        return
    before = model.training
    model.train()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    with no_grad():
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))
    for m, momentum in norms.items():
        m.momentum = momentum
    model.train(before)


class SWALR(LRScheduler):
    """From the learning rate there is to swa_lr, along a cosine or a line, in anneal_epochs epochs; then constant.

    swa_lr   one number, or one for each group. ValueError for another strategy or a negative number of epochs.
    Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018.
    """

    def __init__(
        self, optimizer: Optimizer, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self._check(optimizer)
        for group, rate in zip(optimizer.param_groups, per_group("swa_lr", swa_lr, optimizer), strict=True):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"SWALR: wanted the anneal_strategy 'cos' or 'linear', saw {anneal_strategy!r}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"SWALR: wanted an integer anneal_epochs >= 0, saw {anneal_epochs}")
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t: float) -> float:
        """How much of the way is done at a part t of the time."""
        return t if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * t)) / 2

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = (self.anneal_func(max(0, min(1, k / max(1, self.anneal_epochs)))) for k in (step - 1, step))
        values = []
        for group in self.optimizer.param_groups:
            lr, end = group["lr"], group["swa_lr"]
            start = end if before == 1 else (lr - before * end) / (1 - before)
            values.append(end * now + start * (1 - now))
        return values

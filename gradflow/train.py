"""Training: fit a model to batches, evaluate it, and keep a checkpoint from which training goes on bit for bit."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from . import backend, io
from .amp import GradScaler, autocast
from .data import prefetch
from .nn.evaluation import evaluating
from .nn.module import Module
from .nn.utils import clip_grad_norm_
from .op import unwrap, wrap
from .optim import lr_scheduler
from .tape import Traced

History = dict[str, list[float]]  # of each quantity, its value after every epoch


def accuracy(output: Any, target: Any) -> Any:
    """The fraction of rows whose largest score stands at the target: output (n, c, ...), target (n, ...) of classes."""
    output, target = unwrap(output), unwrap(target)
    return (output.argmax(1) == target).mean()


class Mean:
    """A mean over samples of values that stay on the device until it is asked for."""

    def __init__(self) -> None:
        self.total: Any = None
        self.count = 0

    def add(self, value: Any, n: int) -> None:
        """Count a value that is itself a mean over n samples."""
        self.put(value, n)
        self.count += n

    def put(self, value: Any, n: int) -> None:
        """The part of add that may be captured: the sum grows in place."""
        value = unwrap(value)
        part = (value.astype(np.float64) if hasattr(value, "astype") else value) * n
        if self.total is None:
            self.total = part
        else:
            self.total += part

    def restart(self) -> None:
        """Begin anew, with the sum in its place."""
        self.count = 0
        if backend.on_card(self.total):
            self.total.fill(0)
        else:
            self.total = None

    def read(self) -> float:
        """The mean; waits for the device."""
        return float(self.total) / self.count if self.count else float("nan")


def to_device(batch: Any, where: Any) -> Any:
    """A batch, nested tuples, lists and dicts of tensors and arrays, as tensors on a device."""
    if isinstance(batch, Traced):
        return batch.to(where, non_blocking=True)  # type: ignore[attr-defined]
    if backend.is_array(batch):
        return wrap(backend.to_device(batch, where, non_blocking=True))
    if isinstance(batch, Mapping):
        return {k: to_device(v, where) for k, v in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(to_device(v, where) for v in batch)
    return batch


def _arriving(loader: Iterable[Any], where: backend.device) -> Any:
    """A block with the batches of a loader, on a card copied ahead; whatever ends it ends the copies and the threads."""
    return contextlib.closing(prefetch(loader, where)) if where.type == "cuda" else contextlib.nullcontext(loader)


def _home(model: Module, device: Any) -> backend.device:
    """The device to train on: the one given, to which the model is moved, else the model's."""
    if device is not None:
        model.to(backend.device(device))
        return backend.device(device)
    first = next(model.parameters(), None)
    return backend.CPU if first is None else first.device


def _split(name: str, batch: Any) -> tuple[tuple, Any]:
    """(inputs, target) of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise ValueError(f"{name}: wanted batches (input, ..., target), saw {type(batch).__name__}")
    return tuple(batch[:-1]), batch[-1]


def _rows(target: Any) -> int:
    shape = tuple(getattr(target, "shape", ()))
    return int(shape[0]) if shape else 1


class _Bar:
    """Batches with a progress bar where tqdm is installed and someone looks."""

    def __init__(self, batches: Iterable[Any], title: str, progress: bool | None) -> None:
        self.batches, self.title = batches, title
        self.shown = sys.stderr.isatty() if progress is None else progress

    def __iter__(self) -> Iterator[Any]:
        if self.shown:
            try:
                from tqdm import tqdm
            except ImportError:
                self.shown = False
        return iter(tqdm(self.batches, self.title, leave=False, unit="batch") if self.shown else self.batches)


def _metrics(metrics: Any) -> dict[str, Callable[[Any, Any], Any]]:
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        return dict(metrics)
    return {f.__name__: f for f in ((metrics,) if callable(metrics) else metrics)}


def evaluate(
    model: Module,
    loader: Iterable[Any],
    loss_fn: Callable[[Any, Any], Any] | None = None,
    metrics: Any = None,
    device: Any = None,
    progress: bool | None = None,
) -> dict[str, float]:
    """The means over all samples of the loss and the metrics, in evaluation and unrecorded.

    loader    gives batches (input, ..., target)
    metrics   functions of (output, target), one, several, or by name; `accuracy` is one
    """
    measures = _metrics(metrics)
    where = _home(model, device)
    means = {name: Mean() for name in (["loss"] if loss_fn is not None else []) + list(measures)}
    with evaluating(model), _arriving(loader, where) as batches:
        for batch in _Bar(batches, "evaluate", progress):
            inputs, target = _split("evaluate", to_device(batch, where))
            output, n = model(*inputs), _rows(target)
            if loss_fn is not None:
                means["loss"].add(loss_fn(output, target), n)
            for name, measure in measures.items():
                means[name].add(measure(output, target), n)
    return {name: mean.read() for name, mean in means.items()}


class ResumeError(RuntimeError):
    """A checkpoint that does not belong to the training that was to go on from it. Nothing was changed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during fit; the message says from where training can go on."""


def fit(
    model: Module,
    loss_fn: Callable[[Any, Any], Any],
    optimizer: Any,
    train_loader: Any,
    valid_loader: Any = None,
    epochs: int = 1,
    *,
    scheduler: Any = None,
    device: Any = None,
    metrics: Any = None,
    clip_norm: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    on_epoch: Any = None,
    graph: bool = False,
    amp: Any = None,
    progress: bool | None = None,
    report: Callable[[str], None] | None = print,
) -> History:
    """Train until `epochs` epochs are done; give the history: loss, metrics, valid_*, lr and seconds of each.

    train_loader  gives batches (input, ..., target); the loss is loss_fn(model(input, ...), target)
    valid_loader  what to evaluate on after every epoch
    scheduler     stepped after every epoch; with the validation (else the training) loss if it wants one
    device        where to move the model and the batches; None stays where the model is
    metrics       functions of (output, target), one, several, or by name
    clip_norm     the norm to which the gradients are clipped
    checkpoint    a file that is replaced after every epoch, all at once
    resume        go on from the checkpoint, if there is one: the same bits as if training had not stopped
    on_epoch      called with (epoch, {name: value}) after every epoch, one function or several; True ends training
    graph         capture the training step as one CUDA graph, for batches of the first one's shapes; others, such as a
                  smaller last batch, run as they are. See gradflow.cuda.graph for what a step may hold
    amp           mixed precision: the dtype to which autocast casts, or True for the device's own, float16 on the card and
                  bfloat16 on the CPU; with float16 gradients are scaled (GradScaler)
    progress      show a bar; None does where the standard error is a terminal
    report        gets one line per epoch; None is silent

    On a card each batch is copied while the one before is used (data.prefetch), and nothing is read from it within an
    epoch. Ctrl-C raises Interrupted, which says what the checkpoint holds.
    """
    where, measures = _home(model, device), _metrics(metrics)
    step = _Training(model, optimizer, loss_fn, measures, clip_norm, _precision(amp, where))
    state = _State(model, optimizer, scheduler, train_loader, checkpoint, step.scaler)
    run = step.captured(where) if graph else step
    say = report or (lambda line: None)
    if resume and checkpoint is not None:
        found = state.load()
        say(f"{checkpoint}: {f'going on after epoch {state.epoch}' if found else 'not there yet, from the start'}")
    model.train()
    listeners = () if on_epoch is None else (on_epoch,) if callable(on_epoch) else tuple(on_epoch)
    stopped = False
    try:
        while state.epoch < epochs and not stopped:
            began = time.perf_counter()
            row = _epoch(step, run, train_loader, where, progress, f"epoch {state.epoch + 1}/{epochs}")
            row["lr"] = float(optimizer.param_groups[0]["lr"])
            if valid_loader is not None:
                with step.precision:
                    scores = evaluate(model, valid_loader, loss_fn, measures, None, progress)
                row |= {f"valid_{name}": value for name, value in scores.items()}
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(row.get("valid_loss", row["loss"]))
            elif scheduler is not None:
                scheduler.step()
            row["seconds"] = time.perf_counter() - began
            state.finish(row)
            state.save()
            say(_line(state.epoch, epochs, row))
            stopped = True in [listener(state.epoch, dict(row)) for listener in listeners]
    except KeyboardInterrupt:
        kept = f"{checkpoint} holds epoch {state.saved} whole; resume=True goes on from there"
        nothing = "no checkpoint was written"
        raise Interrupted(f"interrupted in epoch {state.epoch + 1}: {kept if state.saved else nothing}") from None
    return state.history


class _State:
    """What a checkpoint holds: model, optimizer, schedule, loader, scaler, the random stream, and how far it got."""

    def __init__(self, model: Module, optimizer: Any, scheduler: Any, loader: Any, path: Any, scaler: Any) -> None:
        self.model, self.optimizer, self.scheduler, self.loader, self.path = model, optimizer, scheduler, loader, path
        self.scaler = scaler
        self.epoch = self.saved = 0
        self.history: History = {}

    def finish(self, row: dict[str, float]) -> None:
        """Count an epoch and note its values."""
        self.epoch += 1
        for name, value in row.items():
            self.history.setdefault(name, []).append(value)

    def save(self) -> None:
        """Replace the checkpoint, if one was asked for."""
        if self.path is None:
            return
        folder = os.path.dirname(os.fspath(self.path))
        if folder:
            os.makedirs(folder, exist_ok=True)
        io.save_checkpoint(self.path, **self._parts(), epoch=self.epoch, history=self.history)
        self.saved = self.epoch

    def load(self) -> bool:
        """Take up the checkpoint; False if there is none."""
        if not os.path.exists(self.path):
            return False
        try:
            found = io.load_checkpoint(self.path, **self._parts())
        except (RuntimeError, ValueError, KeyError) as e:
            why = e.args[0] if e.args else e
            raise ResumeError(f"fit: {self.path} is not a checkpoint of this training: {why}") from e
        self.epoch = self.saved = found["epoch"]
        self.history = found["history"]
        return True

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer}
        if self.scheduler is not None:
            parts["scheduler"] = self.scheduler
        if self.scaler is not None:
            parts["scaler"] = self.scaler
        if hasattr(self.loader, "load_state_dict"):
            parts["loader"] = self.loader
        return parts


def _precision(amp: Any, where: backend.device) -> Any:
    """The autocast that fit(amp=...) asks for."""
    if amp is None or amp is False:
        return contextlib.nullcontext()
    return autocast(where.type, None if amp is True else amp)


class _Training:
    """The training step, and the means over an epoch of what it gives."""

    def __init__(
        self, model: Module, optimizer: Any, loss_fn: Any, measures: dict[str, Any], clip_norm: Any, precision: Any
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.loss_fn, self.measures, self.clip_norm = model, optimizer, loss_fn, measures, clip_norm
        self.precision = precision
        scaled = isinstance(precision, autocast) and precision.fast_dtype == backend.float16
        self.scaler = GradScaler(precision.device) if scaled else None
        self.means = {name: Mean() for name in ("loss", *measures)}

    def __call__(self, *batch: Any) -> None:
        """Step for a batch (input, ..., target): only what stays on the device."""
        *inputs, target = batch
        self.optimizer.zero_grad()
        with self.precision:
            output = self.model(*inputs)
            loss = self.loss_fn(output, target)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if self.clip_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.model.parameters(), self.clip_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        n = _rows(target)
        values = {"loss": loss} | {name: measure(output, target) for name, measure in self.measures.items()}
        for name, value in values.items():
            if backend.capture.graph is not None and not backend.on_card(unwrap(value)):
                raise TypeError(f"fit: wanted {name} as a tensor on the card with graph=True, saw {type(value).__name__}")
            self.means[name].put(value, n)

    def captured(self, where: backend.device) -> Callable[..., None]:
        """The step as one CUDA graph, for batches like the first one."""
        if where.type != "cuda":
            raise RuntimeError(f"fit: wanted a model on the card with graph=True, saw one on the {where}")
        from .graphs import Step

        step = Step(self, limit=1)
        return lambda *batch: step(*batch) if step.fits(*batch) else self(*batch)


def _epoch(step: _Training, run: Callable[..., None], loader: Any, where: Any, progress: Any, title: str) -> dict:
    """One pass over the training batches: the means of the loss and the metrics."""
    for mean in step.means.values():
        mean.restart()
    with _arriving(loader, where) as batches:
        for batch in _Bar(batches, title, progress):
            inputs, target = _split("fit", to_device(batch, where))
            run(*inputs, target)
            for mean in step.means.values():
                mean.count += _rows(target)
    if not step.means["loss"].count:
        raise ValueError("fit: wanted at least one batch, saw none")
    return {name: mean.read() for name, mean in step.means.items()}


def _line(epoch: int, epochs: int, row: dict[str, float]) -> str:
    shown = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in row.items() if name not in ("lr", "seconds")]
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {'  '.join(shown)}  lr {row['lr']:.3g}  {row['seconds']:.1f} s"

"""GradScaler: losses are scaled up before backward, so that small gradients survive float16, and down before the step."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from .. import backend, kernel
from ..backend import Array, float16, float32, int32, on_card
from ..op import wrap
from ..optim.optimizer import real
from ..tape import Traced
from .scaling import unscale_all, update_scale

READY, UNSCALED, STEPPED = "ready", "unscaled", "stepped"


class _Turn:
    """What was done for one optimizer since the last update, and its findings by device: 1 where one is not finite."""

    def __init__(self) -> None:
        self.stage = READY
        self.found: dict[Any, Array] = {}


class GradScaler:
    """Scale a loss, step unless a gradient overflowed, and find the largest scale that does not overflow.

        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    After an overflow the scale is multiplied by backoff_factor, after growth_interval steps without one by growth_factor.
    On the card nothing of this is read by the host, but by get_scale() and state_dict(), and all of it can be captured in
    a CUDA graph: an optimizer of gradflow.optim divides the gradients by the scale as it reads them, which leaves them
    scaled, and skips its step by itself (_step_supports_amp_scaling). Others are told by the host, which waits.
    enabled=False, or no card for device="cuda", makes it a scaler by one that changes nothing.
    Micikevicius et al., "Mixed Precision Training", 2018, section 3.2.
    """

    def __init__(
        self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
        growth_interval: int = 2000, enabled: bool = True,
    ) -> None:  # fmt: skip
        if enabled and device == "cuda" and backend.card() is None:
            warnings.warn("GradScaler: there is no card, it is switched off", UserWarning, stacklevel=2)
            enabled = False
        if growth_factor <= 1:
            raise AssertionError(f"GradScaler: wanted growth_factor > 1, saw {growth_factor}")
        if backoff_factor >= 1:
            raise AssertionError(f"GradScaler: wanted backoff_factor < 1, saw {backoff_factor}")
        self._device, self._enabled, self._init_scale, self._init_tracker = device, bool(enabled), init_scale, 0
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._scale: Any = None  # a tensor of no dimensions, float32, where the first loss is
        self._tracker: Any = None  # int32: how many steps in a row were good
        self._turns: dict[int, _Turn] = defaultdict(_Turn)
        self._cells: Any = WeakKeyDictionary()  # of each optimizer, the arrays for its findings

    # --- the loss ------------------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor, or those of a tuple, a list or another iterable, times the scale."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Traced):
            where = backend.device_of(outputs.array)
            if self._scale is None:
                with backend.on(where) as xp:
                    self._scale = wrap(xp.full((), self._init_scale, float32))
                    self._tracker = wrap(xp.full((), self._init_tracker, int32))
            here = backend.device_of(self._scale.array) == where
            return outputs * (self._scale if here else self._scale.to(where, non_blocking=True))
        if isinstance(outputs, Iterable):
            scaled = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, (tuple, list)) else scaled  # type: ignore[call-arg]
        raise ValueError(f"scale: wanted tensors, saw {type(outputs).__name__}")

    # --- gradients -----------------------------------------------------------------------------------

    def _look(self, optimizer: Any, turn: _Turn, divide: bool) -> None:
        """Find out whether gradients are finite and, if asked, divide them by the scale."""
        kinds: dict[Any, list[Array]] = defaultdict(list)
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad.array
                if divide:
                    if g.dtype == float16:
                        raise ValueError("unscale_: wanted gradients of float32 or bfloat16, saw float16: keep weights in float32")
                    p.grad.version.bump()
                kinds[backend.device_of(g), g.dtype].append(real(g))
        cells = self._cells.setdefault(optimizer, {})
        for (where, _), arrays in kinds.items():
            if where not in turn.found:
                if where not in cells:
                    with backend.on(where) as xp:
                        cells[where] = xp.zeros((), float32)
                turn.found[where] = cells[where]
                turn.found[where].fill(0)
            scale = backend.to_device(self._scale.array, where) if divide else None
            unscale_all(arrays, scale, turn.found[where])

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, once between two updates, as clipping needs.
        RuntimeError for a second time, ValueError for gradients in float16.
        """
        if not self._enabled:
            return
        self._begun("unscale_")
        turn = self._turns[id(optimizer)]
        if turn.stage != READY:
            done = "unscale_()" if turn.stage == UNSCALED else "step()"
            raise RuntimeError(f"unscale_: wanted gradients that are scaled, saw {done} of this optimizer since the last update()")
        self._look(optimizer, turn, divide=True)
        turn.stage = UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(*args, **kwargs) with the gradients unscaled, unless one of them is not finite.
        RuntimeError for a second time since the last update(), and for a closure.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("step: wanted no closure with a GradScaler, saw one")
        self._begun("step")
        turn = self._turns[id(optimizer)]
        if turn.stage == STEPPED:
            raise RuntimeError("step: wanted one step() of an optimizer between two update(), saw a second")
        scaled = turn.stage == READY
        by_itself = self._card_only(optimizer)
        if scaled:
            self._look(optimizer, turn, divide=not by_itself)
        if not turn.found:
            raise AssertionError("step: wanted gradients to look at, saw none")
        y = None
        if by_itself:
            optimizer.grad_scale = self._scale if scaled else None
            optimizer.found_inf = self._found(list(turn.found.values()))
            try:
                y = optimizer.step(*args, **kwargs)
            finally:
                del optimizer.grad_scale, optimizer.found_inf
        elif not any(float(found) for found in turn.found.values()):
            y = optimizer.step(*args, **kwargs)
        turn.stage = STEPPED
        return y

    def _card_only(self, optimizer: Any) -> bool:
        """Whether a step can be left to the optimizer: it knows what scalers say, and all its parameters are on a card."""
        return bool(getattr(optimizer, "_step_supports_amp_scaling", False)) and all(
            on_card(p.array) for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        )

    def _found(self, found: list[Array]) -> Array:
        """Findings of several devices, or optimizers, as one array beside the scale."""
        home = backend.device_of(self._scale.array)
        total = backend.to_device(found[0], home)
        for other in found[1:]:
            total = total + backend.to_device(other, home)
        return total

    # --- the scale -----------------------------------------------------------------------------------

    def update(self, new_scale: Any = None) -> None:
        """Change the scale after a step by what was found, or to a number or tensor."""
        if not self._enabled:
            return
        self._begun("update")
        scale, tracker = self._scale.array, self._tracker.array
        if new_scale is not None:
            given = isinstance(new_scale, Traced)
            scale[...] = backend.to_device(new_scale.array, backend.device_of(scale)) if given else new_scale
        else:
            found = [f for turn in self._turns.values() for f in turn.found.values()]
            if not found:
                raise AssertionError("update: wanted a step() or unscale_() before it, saw none")
            new, good = update_scale(
                scale, tracker, self._found(found), self._growth_factor, self._backoff_factor, self._growth_interval
            )
            if type(scale) is np.ndarray or kernel.definitions_only:  # a twin writes in place
                scale[...], tracker[...] = new, good
        self._scale.version.bump()
        self._turns.clear()

    def _begun(self, name: str) -> None:
        if self._scale is None:
            raise AssertionError(f"{name}: wanted scale(loss) before it, saw none")

    def get_scale(self) -> float:
        """The scale; waits for the device. 1 if it is switched off."""
        return 1.0 if not self._enabled else self._init_scale if self._scale is None else float(self._scale.array)

    def get_growth_factor(self) -> float:
        """What the scale is multiplied by to grow."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Multiply the scale by this after `growth_interval` steps without an overflow."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied by after an overflow."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Multiply the scale by this after a step with an overflow."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many good steps in a row the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Let the scale grow after so many steps without an overflow."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        return 0 if not self._enabled else self._init_tracker if self._tracker is None else int(self._tracker.array)

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    # --- checkpoints ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The scale, the factors, the interval and how many steps were good, as numbers; waits for the device.
        Empty if it is switched off.
        """
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval, "_growth_tracker": self._get_growth_tracker(),
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what state_dict gave. RuntimeError for that of a scaler that was switched off."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("load_state_dict: wanted the state of a GradScaler that is switched on, saw an empty one")
        self._init_scale, self._init_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        if self._scale is not None:
            self._scale.array[...], self._tracker.array[...] = self._init_scale, self._init_tracker
            self._scale.version.bump()

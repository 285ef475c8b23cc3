"""Schedules along a cosine or in cycles."""

from __future__ import annotations

import math
from typing import Any

from ..optimizer import Optimizer
from .schedule import Function, LRScheduler, copied, get, per_group, put, within_step


class CosineAnnealingLR(LRScheduler):
    """eta_min + (lr - eta_min) (1 + cos(pi epoch / T_max)) / 2, in steps relative to what the lr has become.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        now = [get(group) for group in self.optimizer.param_groups]
        if self._is_initial:
            return now
        if self._step_count == 1 and self.last_epoch > 0:
            return self._get_closed_form_lr()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # the last epoch was at eta_min: no ratio to it
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [lr + (base - self.eta_min) * rise for lr, base in zip(now, self.base_lrs, strict=True)]
        before, after = (1 + math.cos(math.pi * e / self.T_max) for e in (self.last_epoch - 1, self.last_epoch))
        return [after / before * (lr - self.eta_min) + self.eta_min for lr in now]

    def _get_closed_form_lr(self) -> list[Any]:
        height = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """eta_min + (lr - eta_min) (1 + cos(pi T_cur / T_i)) / 2, from the top again after T_i epochs: T_0, T_0 T_mult, ...

    step(epoch) sets the epoch, also a fraction of one. ValueError unless T_0 > 0 and T_mult >= 1 are integers.
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2016.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"CosineAnnealingWarmRestarts: wanted an integer T_0 > 0, saw {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"CosineAnnealingWarmRestarts: wanted an integer T_mult >= 1, saw {T_mult}")
        self.T_0, self.T_i, self.T_mult, self.eta_min = T_0, T_0, T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go on by one epoch, or to a given one, such as epoch + batch / batches."""
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur, self.T_i = self.T_cur % self.T_i, self.T_i * self.T_mult
        else:
            epoch = epoch or 0
            if epoch < 0:
                raise ValueError(f"CosineAnnealingWarmRestarts: wanted an epoch >= 0, saw {epoch}")
            n = 0  # restarts so far, after T_0 (T_mult^n - 1) / (T_mult - 1) epochs
            if self.T_mult == 1:
                self.T_cur = epoch % self.T_0
            else:
                while epoch >= self.T_0 * (self.T_mult ** (n + 1) - 1) / (self.T_mult - 1):
                    n += 1
                self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) // (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult**n
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr)


class Cycle(LRScheduler):
    """A schedule that also moves the momentum (SGD's momentum or Adam's beta1), against the learning rate."""

    cycle_momentum: bool

    def _prepare_momentum(self, base: Any, top: Any, last_epoch: int) -> None:
        name, optimizer = type(self).__name__, self.optimizer
        if not self.cycle_momentum:
            return
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ValueError(f"{name}: wanted an optimizer with momentum or betas, saw {type(optimizer).__name__}")
        self.use_beta1 = "betas" in optimizer.defaults
        lows, highs = per_group("base_momentum", base, optimizer), per_group("max_momentum", top, optimizer)
        self._keep(lows, highs)
        if last_epoch == -1:
            for group, (low, high) in zip(optimizer.param_groups, zip(lows, highs, strict=True), strict=True):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low

    def _keep(self, lows: list[Any], highs: list[Any]) -> None:
        """Note the range of each group's momentum, where the groups are not asked for it."""

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(Cycle):
    """base_lr + (max_lr - base_lr) times a triangle that rises over step_size_up and falls over step_size_down steps.

    mode   "triangular"; "triangular2", half as high after each cycle; "exp_range", times gamma^step
    scale_fn   a height of one's own, of the cycle or, with scale_mode "iterations", of the step
    The momentum moves from max_momentum to base_momentum and back. ValueError for an unknown mode without a scale_fn.
    Smith, "Cyclical Learning Rates for Training Neural Networks", 2015.
    """

    def __init__(
        self, optimizer: Optimizer, base_lr: Any, max_lr: Any, step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Function | None = None, scale_mode: str = "cycle",
        cycle_momentum: bool = True, base_momentum: Any = 0.8, max_momentum: Any = 0.9, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self._check(optimizer)
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise ValueError(f"CyclicLR: wanted triangular, triangular2, exp_range or a scale_fn, saw {mode!r}")
        self.optimizer = optimizer
        base_lrs = per_group("base_lr", base_lr, optimizer)
        self.max_lrs = per_group("max_lr", max_lr, optimizer)
        if last_epoch == -1:
            for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
                put(group, lr)
        self.total_size = float(step_size_up + (step_size_up if step_size_down is None else step_size_down))
        self.step_ratio = step_size_up / self.total_size
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else "iterations" if mode == "exp_range" else "cycle"
        self.cycle_momentum = cycle_momentum
        self._prepare_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def _keep(self, lows: list[Any], highs: list[Any]) -> None:
        self.base_momentums, self.max_momentums = lows, highs

    def scale_fn(self, x: float) -> float:
        """The height of a cycle, or of a step if scale_mode is "iterations"."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)  # type: ignore[arg-type]
        return {"triangular": 1.0, "triangular2": 0.5 ** (x - 1), "exp_range": self.gamma**x}[self.mode]

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1.0 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            pairs = zip(self.base_momentums, self.max_momentums, strict=True)
            for group, (low, high) in zip(self.optimizer.param_groups, pairs, strict=True):
                self._set_momentum(group, high - (high - low) * height * scale)
        return [low + (high - low) * height * scale for low, high in zip(self.base_lrs, self.max_lrs, strict=True)]


class OneCycleLR(Cycle):
    """One rise from max_lr / div_factor to max_lr over the first pct_start of the steps, then one fall to nearly 0.

    The fall ends at max_lr / div_factor / final_div_factor; with three_phase it first mirrors the rise.
    anneal_strategy is "cos" or "linear". step() is called after every batch, at most total_steps (or epochs times
    steps_per_epoch) times: one more is a ValueError, as are values out of range.
    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2017.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: Any, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: Any = 0.85, max_momentum: Any = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self._check(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: wanted total_steps, or epochs and steps_per_epoch, saw neither")
            total_steps = epochs * steps_per_epoch
        if not isinstance(total_steps, int) or total_steps <= 0:
            raise ValueError(f"OneCycleLR: wanted an integer number of steps > 0, saw {total_steps}")
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: wanted pct_start as a float in [0, 1], saw {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"OneCycleLR: wanted the anneal_strategy 'cos' or 'linear', saw {anneal_strategy!r}")
        self.optimizer, self.total_steps, self._anneal_func_type = optimizer, total_steps, anneal_strategy
        turn, last = pct_start * total_steps - 1, total_steps - 1
        ends = [turn, 2 * pct_start * total_steps - 2, last] if three_phase else [turn, last]
        rates = ["initial_lr", "max_lr", *(["initial_lr"] if three_phase else []), "min_lr"]
        momentums = ["max_momentum", "base_momentum", "max_momentum", "max_momentum"]
        self._schedule_phases: list[dict[str, Any]] = [  # each goes on from the one before
            {
                "end_step": float(end), "start_lr": rates[i], "end_lr": rates[i + 1],
                "start_momentum": momentums[i], "end_momentum": momentums[i + 1],
            }
            for i, end in enumerate(ends)
        ]  # fmt: skip
        if last_epoch == -1:
            for group, top in zip(optimizer.param_groups, per_group("max_lr", max_lr, optimizer), strict=True):
                group["initial_lr"], group["max_lr"] = top / div_factor, top
                group["min_lr"] = group["initial_lr"] / final_div_factor
                group["initial_lr"], group["max_lr"] = copied(group["initial_lr"]), copied(top)
        self.cycle_momentum = cycle_momentum
        self._prepare_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _between(self, start: float, end: float, part: float) -> float:
        if self._anneal_func_type == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    @within_step
    def get_lr(self) -> list[Any]:
        """The learning rate of each group at last_epoch."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: wanted at most {self.total_steps} steps, saw one more")
        phases = self._schedule_phases
        i = next((i for i, phase in enumerate(phases) if step <= phase["end_step"]), len(phases) - 1)
        begin, end = phases[i - 1]["end_step"] if i else 0.0, phases[i]["end_step"]
        part = (step - begin) / (end - begin)
        lr_start, lr_end, momentum_start, momentum_end = (
            phases[i][name] for name in ("start_lr", "end_lr", "start_momentum", "end_momentum")
        )
        values = []
        for group in self.optimizer.param_groups:
            values.append(self._between(group[lr_start], group[lr_end], part))
            if self.cycle_momentum:
                self._set_momentum(group, self._between(group[momentum_start], group[momentum_end], part))
        return values

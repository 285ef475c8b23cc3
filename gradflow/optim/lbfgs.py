"""L-BFGS: steps by an inverse Hessian that is known from the last few gradients, with a line search if asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..backend import Array, namespace
from ..op import wrap
from ..tape import Traced
from .line_search import strong_wolfe
from .optimizer import Optimizer, real

KEPT = ("d", "t", "old_dirs", "old_stps", "ro", "H_diag", "prev_flat_grad", "prev_loss")


class LBFGS(Optimizer):
    """p <- p + t d, where d = -H g and H is the inverse Hessian that the last history_size steps and changes of g suggest.

    step(closure)     makes up to max_iter iterations, and calls closure, which computes the loss and its gradients, up to
                      max_eval times (max_iter * 5 // 4 if None)
    tolerance_grad    it ends when no |g| is larger
    tolerance_change  or when neither p nor the loss changes by more
    line_search_fn    None: t = lr (at first at most 1 / sum |g|); "strong_wolfe": found by a search that begins there
    There is one group of parameters. The state, one for all parameters, stands at the first. Vectors are as long as all
    parameters together, complex ones as pairs. ValueError for several groups or a negative lr.
    Nocedal, "Updating quasi-Newton matrices with limited storage", 1980; Nocedal and Wright, "Numerical Optimization".
    """

    def __init__(
        self, params: Iterable[Any], lr: Any = 1, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:  # fmt: skip
        self.at_least_zero(lr=lr)
        if max_eval is None:
            max_eval = max_iter * 5 // 4
        super().__init__(
            params,
            dict(
                lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad,
                tolerance_change=tolerance_change, history_size=history_size, line_search_fn=line_search_fn,
            ),
        )  # fmt: skip
        if len(self.param_groups) != 1:
            raise ValueError(f"LBFGS: wanted one group of parameters, saw {len(self.param_groups)}")

    # --- all parameters as one vector ------------------------------------------------------------

    def _gradient(self) -> Array:
        """All gradients end to end; zeros where there is none."""
        parts = []
        for p in self.param_groups[0]["params"]:
            x = p.array if p.grad is None else p.grad.array
            flat = real(x.copy(order="C") if x.dtype.kind == "c" and not x.flags.c_contiguous else x).reshape(-1)
            parts.append(flat if p.grad is not None else namespace(flat).zeros_like(flat))
        return namespace(parts[0]).concatenate(parts)

    def _move(self, t: Any, d: Array) -> None:
        """p <- p + t d."""
        at = 0
        for p in self.param_groups[0]["params"]:
            x = real(p.array)
            x += (t * d[at : at + x.size]).reshape(x.shape).astype(x.dtype, copy=False)
            at += x.size
            p.version.bump()

    def _evaluate(self, closure: Callable[[], Any], t: Any, d: Array) -> tuple[float, Array]:
        """The loss and its gradient at p + t d; p stays."""
        params = self.param_groups[0]["params"]
        before = [p.array.copy() for p in params]
        self._move(t, d)
        loss = float(self.evaluate(closure))
        g = self._gradient()
        for p, x in zip(params, before, strict=True):
            p.array[...] = x
            p.version.bump()
        return loss, g

    # --- the step --------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Minimise by up to max_iter iterations; give the loss that closure first gave."""
        if closure is None:
            raise TypeError("LBFGS: wanted a closure that computes the loss and its gradients, saw None")
        group = self.param_groups[0]
        state = self.state[group["params"][0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first = self.evaluate(closure)
        state["func_evals"] += 1
        g = self._gradient()
        if not g.size or abs(g).max() <= group["tolerance_grad"]:
            return first
        with np.errstate(all="ignore"):  # a search that meets infinity goes on from what is finite
            run = _Run(self, closure, group, state, float(first), g)
            run.minimise()
        state.update({name: _kept(getattr(run, name)) for name in KEPT})
        return first


class _Run:
    """One step of LBFGS: the vectors of its state as arrays, the loss and the gradient g where the parameters are."""

    def __init__(
        self, optimizer: LBFGS, closure: Callable[[], Any], group: dict, state: dict, loss: float, g: Array
    ) -> None:
        self.optimizer, self.closure, self.group, self.state, self.loss, self.g = (
            optimizer,
            closure,
            group,
            state,
            loss,
            g,
        )
        for name in KEPT:
            setattr(self, name, _array(state.get(name)))
        self.lr = group["lr"].array.item() if isinstance(group["lr"], Traced) else group["lr"]
        self.evaluations = 1

    d: Any
    t: Any
    old_dirs: list
    old_stps: list
    ro: list
    H_diag: Any
    prev_flat_grad: Any
    prev_loss: Any

    def minimise(self) -> None:
        """Iterate until there is nothing to gain, or the allowance is used up."""
        group = self.group
        for i in range(1, group["max_iter"] + 1):
            self.state["n_iter"] += 1
            self._direct()
            self.prev_flat_grad, self.prev_loss = self.g, self.loss
            first = self.state["n_iter"] == 1
            self.t = min(1.0, 1.0 / abs(self.g).sum()) * self.lr if first else self.lr
            slope = self.g.dot(self.d)
            if slope > -group["tolerance_change"]:
                return
            self._go(slope, last=i == group["max_iter"])
            if i == group["max_iter"] or self.evaluations >= group["max_eval"]:
                return
            if abs(self.g).max() <= group["tolerance_grad"] or abs(self.d * self.t).max() <= group["tolerance_change"]:
                return
            if abs(self.loss - self.prev_loss) < group["tolerance_change"]:
                return

    def _direct(self) -> None:
        """The direction d = -H g, once the last step is remembered: y the change of g, s that of the parameters."""
        if self.state["n_iter"] == 1:
            self.d, self.old_dirs, self.old_stps, self.ro, self.H_diag = -self.g, [], [], [], 1
            return
        y, s = self.g - self.prev_flat_grad, self.d * self.t
        ys = y.dot(s)
        if ys > 1e-10:
            if len(self.old_dirs) == self.group["history_size"]:
                for memory in (self.old_dirs, self.old_stps, self.ro):
                    memory.pop(0)
            self.old_dirs.append(y)
            self.old_stps.append(s)
            self.ro.append(1.0 / ys)
            self.H_diag = ys / y.dot(y)
        count = len(self.old_dirs)
        al: list[Any] = [None] * self.group["history_size"]
        q = -self.g
        for i in reversed(range(count)):
            al[i] = self.old_stps[i].dot(q) * self.ro[i]
            q -= al[i] * self.old_dirs[i]
        q *= self.H_diag
        for i in range(count):
            q += (al[i] - self.old_dirs[i].dot(q) * self.ro[i]) * self.old_stps[i]
        self.d = q
        self.state["al"] = _kept(al)

    def _go(self, slope: Any, last: bool) -> None:
        """Take the step; the loss and the gradient are those there, but for the last step without a search."""
        optimizer = self.optimizer
        search = self.group["line_search_fn"]
        used = 0
        if search is None:
            optimizer._move(self.t, self.d)
            if not last:
                self.loss, self.g = float(optimizer.evaluate(self.closure)), optimizer._gradient()
                used = 1
        elif search == "strong_wolfe":
            self.loss, self.g, self.t, used = strong_wolfe(
                lambda t: optimizer._evaluate(self.closure, t, self.d), self.t, self.d, self.loss, self.g, slope,
                most=self.group["max_eval"] - self.evaluations,
            )  # fmt: skip
            optimizer._move(self.t, self.d)
        else:
            raise RuntimeError(f"LBFGS: wanted line_search_fn None or 'strong_wolfe', saw {search!r}")
        self.evaluations += used
        self.state["func_evals"] += used


def _kept(v: Any) -> Any:
    """A value of a run as the state keeps it: arrays, and numbers that came of them, as tensors."""
    if isinstance(v, list):
        return [_kept(u) for u in v]
    return v if v is None or (isinstance(v, (int, float)) and not isinstance(v, np.generic)) else wrap(v)


def _array(v: Any) -> Any:
    """A value of the state for a run, which changes lists but no array of it."""
    if isinstance(v, list):
        return [_array(u) for u in v]
    return v.array if isinstance(v, Traced) else v

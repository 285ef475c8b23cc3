"""Sets that a parameter or a value must lie in; check(value) says of each element, or each event, whether it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradflow as gf

from ..ops import combined, pointwise, reduce, shape


class Constraint:
    """A set of values; `event_dim` of the last dimensions together are one value, `is_discrete` if it is a grid."""

    def __init__(self, name: str, test: Callable[[Any], Any], event_dim: int = 0, is_discrete: bool = False) -> None:
        self.name, self.test, self.event_dim, self.is_discrete = name, test, event_dim, is_discrete

    def check(self, value: Any) -> Any:
        """Whether each value lies in the set."""
        return self.test(value)

    def __repr__(self) -> str:
        return self.name


def _whole(x: Any) -> Any:
    return (x % 1) == 0


def all_of(x: Any, dims: int) -> Any:
    """Whether all elements of the last dims hold."""
    for _ in range(dims):
        x = reduce.all(x, -1)
    return x


def _positive_definite(x: Any) -> Any:
    from ..linalg import cholesky_ex

    symmetric = all_of(combined.isclose(x, shape.transpose(x, -2, -1), atol=1e-6), 2)
    return symmetric & (cholesky_ex(x).info == 0)


def _lower_cholesky(x: Any) -> Any:
    from ..ops.arrange import diagonal, tril

    return all_of(tril(x) == x, 2) & all_of(diagonal(x, 0, -2, -1) > 0, 1)


dependent = Constraint("dependent", lambda x: True)  # known only together with other parameters
boolean = Constraint("boolean", lambda x: (x == 0) | (x == 1), is_discrete=True)
real = Constraint("real", lambda x: x == x)
real_vector = Constraint("real_vector", lambda x: all_of(x == x, 1), 1)
positive = Constraint("positive", lambda x: x > 0)
nonnegative = Constraint("nonnegative", lambda x: x >= 0)
unit_interval = Constraint("unit_interval", lambda x: (x >= 0) & (x <= 1))
nonnegative_integer = Constraint("nonnegative_integer", lambda x: _whole(x) & (x >= 0), is_discrete=True)
positive_integer = Constraint("positive_integer", lambda x: _whole(x) & (x >= 1), is_discrete=True)
simplex = Constraint("simplex", lambda x: all_of(x >= 0, 1) & (pointwise.abs(reduce.sum(x, -1) - 1) < 1e-6), 1)
one_hot = Constraint("one_hot", lambda x: all_of((x == 0) | (x == 1), 1) & (reduce.sum(x, -1) == 1), 1, True)
positive_definite = Constraint("positive_definite", _positive_definite, 2)
lower_cholesky = Constraint("lower_cholesky", _lower_cholesky, 2)
square = Constraint("square", lambda x: gf.full(x.shape[:-2], x.shape[-1] == x.shape[-2]), 2)


def greater_than(low: Any) -> Constraint:
    """Above `low`."""
    return Constraint(f"greater_than({low})", lambda x: x > low)


def greater_than_eq(low: Any) -> Constraint:
    """At least `low`."""
    return Constraint(f"greater_than_eq({low})", lambda x: x >= low)


def less_than(high: Any) -> Constraint:
    """Below `high`."""
    return Constraint(f"less_than({high})", lambda x: x < high)


def interval(low: Any, high: Any) -> Constraint:
    """From low to high, both included."""
    return Constraint(f"interval({low}, {high})", lambda x: (x >= low) & (x <= high))


def integer_interval(low: Any, high: Any) -> Constraint:
    """The whole numbers from low to high."""
    return Constraint(
        f"integer_interval({low}, {high})", lambda x: _whole(x) & (x >= low) & (x <= high), is_discrete=True
    )


def multinomial(total: Any) -> Constraint:
    """Counts that sum to `total`."""
    return Constraint("multinomial", lambda x: all_of(_whole(x) & (x >= 0), 1) & (reduce.sum(x, -1) <= total), 1, True)


def independent(base: Constraint, dims: int) -> Constraint:
    """A set whose last `dims` dimensions count as one value."""
    return Constraint(
        f"independent({base})", lambda x: all_of(base.check(x), dims), base.event_dim + dims, base.is_discrete
    )


half_open_interval = interval

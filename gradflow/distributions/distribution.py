"""What every distribution has: shapes, moments, samples, densities; and how parameters are broadcast and checked."""

from __future__ import annotations

from typing import Any

import numpy as np

import gradflow as gf

from .. import backend
from ..autograd import no_grad
from ..ops import pointwise, shape
from ..tape import Traced
from ..tensor import Size
from . import constraints


class Distribution:
    """A distribution over values of shape event_shape, one for each index of batch_shape.

    A sample has shape sample_shape + batch_shape + event_shape; log_prob drops event_shape. A subclass names its
    parameters in `arg_constraints` and keeps them, broadcast, under these names.
    """

    has_rsample = False
    has_enumerate_support = False
    arg_constraints: dict[str, constraints.Constraint] = {}
    support: Any = None
    _validate_by_default = True

    def __init__(self, batch_shape: Any = (), event_shape: Any = (), validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        self._validate = self._validate_by_default if validate_args is None else validate_args
        if self._validate:
            for name, constraint in self.arg_constraints.items():
                value = self.__dict__.get(name)
                if constraint is constraints.dependent or value is None:
                    continue
                if not bool(constraint.check(value).all()):
                    raise ValueError(
                        f"{type(self).__name__}: wanted {name} of shape {tuple(value.shape)} within {constraint}, saw {value}"
                    )

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether parameters and values are checked unless a distribution says otherwise."""
        Distribution._validate_by_default = value

    @property
    def batch_shape(self) -> Size:
        """The shape of the distributions themselves."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one value."""
        return self._event_shape

    def _extended_shape(self, sample_shape: Any = ()) -> Size:
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    # --- what a subclass says ---------------------------------------------------------------------------

    @property
    def mean(self) -> Any:
        """The expected value."""
        raise NotImplementedError(f"{type(self).__name__} has no mean")

    @property
    def mode(self) -> Any:
        """The most likely value."""
        raise NotImplementedError(f"{type(self).__name__} has no mode")

    @property
    def variance(self) -> Any:
        """The expected squared distance from the mean."""
        raise NotImplementedError(f"{type(self).__name__} has no variance")

    @property
    def stddev(self) -> Any:
        """The square root of the variance."""
        return pointwise.sqrt(self.variance)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """A sample through which gradients reach the parameters."""
        raise NotImplementedError(
            f"{type(self).__name__} has no rsample: its samples are no function of its parameters"
        )

    def sample(self, sample_shape: Any = ()) -> Any:
        """A sample, of no place on the tape."""
        with no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density, or of the probability, at `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob")

    def cdf(self, value: Any) -> Any:
        """The probability of a value at most `value`."""
        raise NotImplementedError(f"{type(self).__name__} has no cdf")

    def icdf(self, value: Any) -> Any:
        """The inverse of cdf."""
        raise NotImplementedError(f"{type(self).__name__} has no icdf")

    def entropy(self) -> Any:
        """The expected -log_prob."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy")

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values, along a new first dimension."""
        raise NotImplementedError(f"{type(self).__name__} has no finite support")

    def perplexity(self) -> Any:
        """e^entropy."""
        return pointwise.exp(self.entropy())

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distributions for a larger batch."""
        batch_shape = Size(batch_shape)
        new = object.__new__(type(self)) if _instance is None else _instance
        new.__dict__.update(self.__dict__)
        old = len(self._batch_shape)
        for name, value in self.__dict__.items():
            if isinstance(value, Traced) and not name.startswith("_unbatched"):
                event = tuple(value.shape)[old:] if old else tuple(value.shape)
                new.__dict__[name] = shape.expand(value, (*batch_shape, *event))
            elif isinstance(value, Distribution):
                new.__dict__[name] = value.expand((*batch_shape, *tuple(value.batch_shape)[old:]))
        new._batch_shape = batch_shape
        return new

    # --- checks ---------------------------------------------------------------------------------------------

    def _check(self, value: Any) -> None:
        """ValueError unless `value` is a tensor of a fitting shape within the support."""
        if not self._validate:
            return
        if not isinstance(value, Traced):
            raise ValueError(f"{type(self).__name__}: wanted a tensor as value, saw {type(value).__name__}")
        tail = tuple(value.shape)[value.ndim - len(self._event_shape) :]
        if tail != tuple(self._event_shape):
            raise ValueError(
                f"{type(self).__name__}: wanted events of shape {tuple(self._event_shape)}, saw {tuple(value.shape)}"
            )
        try:
            np.broadcast_shapes(tuple(value.shape), tuple(self._extended_shape()))
        except ValueError:
            raise ValueError(
                f"{type(self).__name__}: wanted a value that broadcasts to {tuple(self._extended_shape())}, "
                f"saw shape {tuple(value.shape)}"
            ) from None
        if self.support is not None and not bool(self.support.check(value).all()):
            raise ValueError(f"{type(self).__name__}: wanted values within {self.support}, saw {value}")

    def __repr__(self) -> str:
        names = [n for n in self.arg_constraints if n in self.__dict__]
        shown = [
            f"{n}: {self.__dict__[n] if self.__dict__[n].numel() == 1 else self.__dict__[n].size()}" for n in names
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


class ExponentialFamily(Distribution):
    """A distribution with density h(x) exp(t(x) . eta - A(eta)); a name that programs ask isinstance for."""


def broadcast_all(*values: Any) -> tuple:
    """Numbers and tensors as tensors of one shape, numbers in the dtype and on the device of the tensors."""
    like = next((v for v in values if isinstance(v, Traced)), None)
    dtype = backend.get_default_dtype() if like is None else like.dtype
    where = None if like is None else like.device
    return shape.broadcast_tensors(
        *(v if isinstance(v, Traced) else gf.tensor(v, dtype=dtype, device=where) for v in values)
    )


def uniform(like: Any, size: Any) -> Any:
    """Uniform numbers in (0, 1), neither end included, in like's dtype and place."""
    tiny = float(np.finfo(like.dtype).tiny)
    return pointwise.clamp(gf.rand(size, dtype=like.dtype, device=like.device), tiny, None)


def normal(like: Any, size: Any) -> Any:
    """Standard normal numbers in like's dtype and place."""
    return gf.randn(size, dtype=like.dtype, device=like.device)


def number(value: Any) -> bool:
    """Whether a parameter was given as a Python number: then the batch has no shape."""
    return not isinstance(value, Traced)


def summed(x: Any, dims: int) -> Any:
    """x summed over its last `dims` dimensions."""
    return x.sum(tuple(range(-dims, 0))) if dims else x

"""A line search: how far to go along a direction, so that the loss falls enough and its slope has become flat enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..backend import Array


class Point(NamedTuple):
    """A place t along the direction: the loss, its gradient, and its slope along the direction there."""

    t: Any
    loss: Any
    g: Array
    slope: Any


def strong_wolfe(
    evaluate: Callable[[Any], tuple[float, Array]], t: Any, d: Array, loss: float, g: Array, slope: Any,
    enough: float = 1e-4, flat: float = 0.9, closest: float = 1e-9, most: int = 25,
) -> tuple[Any, Array, Any, int]:  # fmt: skip
    """(loss, gradient, t, evaluations) at a t with loss(t) <= loss(0) + enough t slope(0), |slope(t)| <= flat |slope(0)|.

    evaluate(t)   gives the loss and its gradient at t along d; the first t is tried first
    closest       a bracket whose ends are no farther apart, times the largest |d|, is not searched
    most          how many evaluations, after the first, there may be
    Nocedal and Wright, "Numerical Optimization", algorithms 3.5 and 3.6, with steps by cubic interpolation.
    """

    def at(t: Any) -> Point:
        f, df = evaluate(t)
        return Point(t, f, df, df.dot(d))

    start = Point(0, loss, g, slope)
    before, here = start, at(t)
    done, tries = False, 0
    bracket: list[Point] = []
    while tries < most:
        if here.loss > loss + enough * here.t * slope or (tries > 1 and here.loss >= before.loss):
            bracket = [before, here]
        elif abs(here.slope) <= -flat * slope:
            bracket, done = [here], True
        elif here.slope >= 0:
            bracket = [before, here]
        if bracket:
            break
        reach = (here.t + 0.01 * (here.t - before.t), here.t * 10)
        before, here = here, at(lowest_of_cubic(before, here, reach))
        tries += 1
    if tries == most:
        bracket = [start, here]
    stuck = False
    low, high = (0, 1) if bracket[0].loss <= bracket[-1].loss else (1, 0)
    while not done and tries < most:
        a, b = bracket[0].t, bracket[1].t
        if abs(b - a) * abs(d).max() < closest:
            break
        t = lowest_of_cubic(bracket[0], bracket[1])
        least, greatest = min(a, b), max(a, b)
        margin = 0.1 * (greatest - least)
        near = min(greatest - t, t - least) < margin
        if near and (stuck or t >= greatest or t <= least):  # too near an end, again: stay away from it
            t = greatest - margin if abs(t - greatest) < abs(t - least) else least + margin
            near = False
        stuck = bool(near)
        here = at(t)
        tries += 1
        if here.loss > loss + enough * t * slope or here.loss >= bracket[low].loss:
            bracket[high] = here
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
        else:
            if abs(here.slope) <= -flat * slope:
                done = True
            elif here.slope * (bracket[high].t - bracket[low].t) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = here
    best = bracket[low]
    return best.loss, best.g, best.t, tries + 1


def lowest_of_cubic(a: Point, b: Point, between: tuple[Any, Any] | None = None) -> Any:
    """Where the cubic through two points, with their slopes, is lowest, kept between two numbers: else the two points."""
    least, greatest = between or ((a.t, b.t) if a.t <= b.t else (b.t, a.t))
    u = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = u**2 - a.slope * b.slope
    if not square >= 0:
        return (least + greatest) / 2.0
    w = square**0.5
    if a.t <= b.t:
        t = b.t - (b.t - a.t) * ((b.slope + w - u) / (b.slope - a.slope + 2 * w))
    else:
        t = a.t - (a.t - b.t) * ((a.slope + w - u) / (a.slope - b.slope + 2 * w))
    return min(max(t, least), greatest)

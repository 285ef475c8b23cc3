"""Which of equal elements a selection picks: what PyTorch's does on the CPU, for small tensors.

Where several elements are the k-th, PyTorch promises none of them; programs that print or compare indices see what its
algorithms leave: quickselect with the median of three for kthvalue, a heap or introselect and then introsort for topk (the
C++ standard library's). They run here, on pairs (value, place), only where there are such ties and few elements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

FEW = 4096  # elements of a tensor up to which ties are broken as PyTorch breaks them; beyond, the first of equals
Pairs = list[tuple[Any, int]]
Before = Callable[[tuple[Any, int], tuple[Any, int]], bool]


def ascending(a: tuple, b: tuple) -> bool:
    """Whether a comes before b: by value, NaN last."""
    return (a[0] == a[0] and b[0] != b[0]) or a[0] < b[0]


def descending(a: tuple, b: tuple) -> bool:
    """Whether a comes before b from the largest on: NaN first."""
    return (a[0] != a[0] and b[0] == b[0]) or a[0] > b[0]


# --- kthvalue: Hoare's quickselect ------------------------------------------------------------------------


def quickselect(a: Pairs, k: int) -> tuple:
    """The pair at place k after partitions around a median of three."""
    low, high = 0, len(a) - 1
    after = lambda p, q: ascending(q, p)
    while high > low + 1:
        middle = (low + high) // 2
        a[middle], a[low + 1] = a[low + 1], a[middle]
        for p, q in ((low + 1, high), (low, high), (low + 1, low)):
            if after(a[p], a[q]):
                a[p], a[q] = a[q], a[p]
        i, j, pivot = low + 1, high, a[low]
        while True:
            i += 1
            while after(pivot, a[i]):
                i += 1
            j -= 1
            while after(a[j], pivot):
                j -= 1
            if j < i:
                break
            a[i], a[j] = a[j], a[i]
        a[low], a[j] = a[j], a[low]
        low, high = (i if j <= k else low), (j - 1 if j >= k else high)
    if high == low + 1 and after(a[low], a[high]):
        a[low], a[high] = a[high], a[low]
    return a[k]


# --- topk: heaps, introselect, introsort --------------------------------------------------------------------


def _sift(a: Pairs, hole: int, n: int, value: tuple, before: Before) -> None:
    """Put value into the heap of the first n, from the hole down to a leaf and up again."""
    top, child = hole, hole
    while child < (n - 1) // 2:
        child = 2 * (child + 1)
        if before(a[child], a[child - 1]):
            child -= 1
        a[hole], hole = a[child], child
    if n % 2 == 0 and child == (n - 2) // 2:
        a[hole] = a[2 * child + 1]
        hole = 2 * child + 1
    parent = (hole - 1) // 2
    while hole > top and before(a[parent], value):
        a[hole], hole = a[parent], parent
        parent = (hole - 1) // 2
    a[hole] = value


def partly_sorted(a: Pairs, k: int, before: Before) -> Pairs:
    """The first k in order: a heap of k that the others pass by, emptied from its top."""
    if k > 1:
        for i in range((k - 2) // 2, -1, -1):
            _sift(a, i, k, a[i], before)
    for i in range(k, len(a)):
        if before(a[i], a[0]):
            value, a[i] = a[i], a[0]
            _sift(a, 0, k, value, before)
    for i in range(k - 1, 0, -1):
        value, a[i] = a[i], a[0]
        _sift(a, 0, i, value, before)
    return a


def _cut(a: Pairs, first: int, last: int, before: Before) -> int:
    """Part a[first:last] around the median of its second, middle and last pair: where the second part begins."""
    p, q, r = first + 1, first + (last - first) // 2, last - 1
    if before(a[p], a[q]):
        m = q if before(a[q], a[r]) else r if before(a[p], a[r]) else p
    else:
        m = p if before(a[p], a[r]) else r if before(a[q], a[r]) else q
    a[first], a[m] = a[m], a[first]
    pivot, i, j = a[first], first + 1, last
    while True:
        while before(a[i], pivot):
            i += 1
        j -= 1
        while before(pivot, a[j]):
            j -= 1
        if i >= j:
            return i
        a[i], a[j] = a[j], a[i]
        i += 1


def _inserted(a: Pairs, first: int, last: int, before: Before) -> None:
    """Insertion sort of a[first:last], which is stable."""
    for i in range(first + 1, last):
        value, j = a[i], i
        while j > first and before(value, a[j - 1]):
            a[j] = a[j - 1]
            j -= 1
        a[j] = value


def introselect(a: Pairs, k: int, before: Before) -> None:
    """Put the pair at place k where it is in order, none after it before one in front of it."""
    first, last, depth = 0, len(a), 2 * (len(a).bit_length() - 1)
    while last - first > 3 and depth:
        depth -= 1
        cut = _cut(a, first, last, before)
        first, last = (cut, last) if cut <= k else (first, cut)
    if last - first > 3:  # too many bad cuts
        a[first:last] = partly_sorted(a[first:last], k + 1 - first, before)
    else:
        _inserted(a, first, last, before)


def introsort(a: Pairs, before: Before) -> Pairs:
    """a in order: parts of more than 16 are cut, and insertion does the rest."""
    parts = [(0, len(a), 2 * (max(len(a), 1).bit_length() - 1))]
    while parts:
        first, last, depth = parts.pop()
        while last - first > 16:
            if not depth:
                a[first:last] = partly_sorted(a[first:last], last - first, before)
                break
            depth -= 1
            cut = _cut(a, first, last, before)
            parts.append((cut, last, depth))
            last = cut
    _inserted(a, 0, len(a), before)
    return a


def topped(a: Pairs, k: int, largest: bool) -> Pairs:
    """The k most extreme pairs, in order."""
    before = descending if largest else ascending
    if 64 * k <= len(a):
        return partly_sorted(a, k, before)[:k]
    introselect(a, k - 1, before)
    return [*introsort(a[: k - 1], before), a[k - 1]]


# --- what sort.py asks --------------------------------------------------------------------------------------


def _same(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x == y) | ((x != x) & (y != y))


def _resolved(x: np.ndarray, places: np.ndarray, d: int, tied: np.ndarray, choose: Callable[[Pairs], list[int]]) -> None:
    """Write the chosen places of the tied slices along dimension d into places."""
    rows, into = np.moveaxis(x, d, -1).reshape(-1, x.shape[d]), np.moveaxis(places, d, -1)
    flat = into.reshape(-1, into.shape[-1])
    for i in np.flatnonzero(tied.reshape(-1)):
        flat[i] = choose(list(zip(rows[i].tolist(), range(x.shape[d]), strict=True)))
    into[...] = flat.reshape(into.shape)


def of_top(x: np.ndarray, places: np.ndarray, k: int, d: int, largest: bool) -> np.ndarray:
    """The places of the k most extreme elements along d, where there are ties those that PyTorch picks."""
    if x.size > FEW or k < 1:
        return places
    found = np.take_along_axis(x, places, d)
    equal = _same(np.expand_dims(np.moveaxis(x, d, -1), -2), np.expand_dims(np.moveaxis(found, d, -1), -1)).sum(-1)
    tied = (equal > 1).any(-1)
    if tied.any():
        places = np.array(places)
        _resolved(x, places, d, tied, lambda a: [p for _, p in topped(a, k, largest)])
    return places


def of_kth(x: np.ndarray, places: np.ndarray, k: int, d: int) -> np.ndarray:
    """The places of the k-th elements along d, counted from 0, where there are ties those that PyTorch picks."""
    if x.size > FEW:
        return places
    tied = _same(x, np.take_along_axis(x, places, d)).sum(d) > 1
    if tied.any():
        places = np.array(places)
        _resolved(x, places, d, tied, lambda a: [quickselect(a, k)[1]])
    return places


def of_mode(rows: np.ndarray, values: np.ndarray) -> np.ndarray | None:
    """Of each row, the place that PyTorch's sorting leaves last among the elements equal to its value; None for many."""
    if rows.size > FEW or rows.shape[-1] <= 16:
        return None
    last = []
    for row, value in zip(rows, values, strict=True):
        order = introsort(list(zip(row.tolist(), range(len(row)), strict=True)), ascending)
        last.append([p for v, p in order if v == value][-1] if value == value else order[0][1])
    return np.asarray(last, np.int64)

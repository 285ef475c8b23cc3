"""Selections with ties: the values are those of sorting, the places are distinct, and PyTorch's where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import gradflow as gf
from gradflow.ops import ties

RNG = np.random.default_rng(0)
ROWS = [RNG.integers(0, high, n) for n in (1, 2, 3, 5, 16, 17, 40, 300) for high in (2, 4, 50)]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{len(r)}-{r.max()}")
def test_the_algorithms_select(row):
    pairs = list(zip(row.tolist(), range(len(row)), strict=True))
    up, down = sorted(row.tolist()), sorted(row.tolist(), reverse=True)
    assert [v for v, _ in ties.introsort(list(pairs), ties.ascending)] == up
    for k in {1, 2, len(row) // 2, len(row)} - {0}:
        if k > len(row):
            continue
        assert ties.quickselect(list(pairs), k - 1)[0] == up[k - 1]
        for largest, expected in ((True, down), (False, up)):
            before = ties.descending if largest else ties.ascending
            for found in (ties.topped(list(pairs), k, largest), ties.partly_sorted(list(pairs), k, before)[:k]):
                assert [v for v, _ in found] == expected[:k]
                assert len({p for _, p in found}) == k
                assert all(row[p] == v for v, p in found)


def test_nan_is_the_largest():
    x = gf.tensor([np.nan, 1.0, np.nan, 2.0, 1.0])
    assert sorted(x.topk(2).indices.tolist()) == [0, 2]
    assert x.kthvalue(3).values.item() == 2.0


@pytest.mark.reference
def test_as_pytorch_picks():
    torch = pytest.importorskip("torch")
    for row in ROWS:
        x = np.stack([row, row[::-1]])
        for k in range(1, len(row) + 1, max(1, len(row) // 7)):
            for call in (lambda t: t.topk(k), lambda t: t.topk(k, largest=False), lambda t: t.kthvalue(k), lambda t: t.mode()):
                ours, theirs = call(gf.tensor(x)), call(torch.tensor(x))
                assert ours.values.tolist() == theirs.values.tolist()
                assert ours.indices.tolist() == theirs.indices.tolist()

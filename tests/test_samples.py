"""PyTorch's own samples of every public operator, beside gradflow (tests/samples.py): all whole, but for named differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from differences import DIFFERENCES

pytestmark = pytest.mark.reference
pytest.importorskip("torch")
pytest.importorskip("expecttest")  # PyTorch's table imports it

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import samples

    INFOS = samples.infos()


@pytest.mark.parametrize("name", INFOS)
def test_operator(name):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = samples.failures(INFOS[name], most=8 if name in DIFFERENCES else 3)
    if name in DIFFERENCES:
        assert found, f"{name} is whole by now: take it out of differences.py"
    else:
        assert not found, "\n".join(found)

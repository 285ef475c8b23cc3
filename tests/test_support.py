"""gradflow/SUPPORT.md says what the op table says."""

from __future__ import annotations

import warnings

import numpy as np
import support


def test_the_support_table_is_current():
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        now = support.text()
    assert support.FILE.read_text() == now, "run `python tests/support.py`"

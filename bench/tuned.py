"""`tune`: the table of fastest variants to ship, measured on a card: every problem of the benches, afresh, at leisure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradflow.cuda import tune

from .case import Inputs


def run(cases: Sequence[Any], side: Any, out: Path) -> int:
    """Call each case once, so that its problems are timed; add what was found to the table at `out`. 1 if a case failed."""
    failed = 0
    with tune.measured() as times:
        side.begin()
        try:
            for case in cases:
                side.allow_tf32(case.tf32)
                before = problems(times)
                try:
                    case.make(side, Inputs(case.name, case.dtype))[0]()
                except Exception as e:  # noqa: BLE001 (the other cases still have something to say)
                    failed += 1
                    print(f"{case.name}: {type(e).__name__}: {e}", file=sys.stderr)
                print(f"{case.name}: {problems(times) - before} problems", flush=True)
                side.forget()
        finally:
            side.allow_tf32(False)
            side.end()
        known = tune.read(out)
        for card, families in times.items():
            for family, found in families.items():
                stale = [f for f in known.get(card, {}) if f != family and f.split()[0] == family.split()[0]]
                for f in stale:  # of an older source
                    del known[card][f]
                known.setdefault(card, {}).setdefault(family, {}).update(found)
        if times:
            tune.write(out, known)
    print(f"{problems(times)} problems of {', '.join(times) or 'no card'} in {out}")
    return 1 if failed else 0


def problems(times: tune.Times) -> int:
    """How many problems a table has."""
    return sum(len(rows) for families in times.values() for rows in families.values())

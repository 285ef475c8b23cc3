"""A pytest plugin for `gpu`: every outcome at once as a line of JSON, so that a run cut short leaves what it found."""

from __future__ import annotations

import faulthandler
import json
import os
from typing import Any

import pytest

LOST = (
    "cudaErrorIllegalAddress",
    "CUDA_ERROR_ILLEGAL",
    "cudaErrorLaunchFailure",
    "CUDA_ERROR_LAUNCH",
    "device-side assert",
)


def note(**what: Any) -> None:
    """Add a line to the file that `gpu` reads."""
    path = os.environ.get("GRADFLOW_OUTCOMES")
    if path:
        with open(path, "a") as f:
            f.write(json.dumps(what) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write that a test begins: if nothing follows, it ended the process."""
    note(id=nodeid, outcome="started")
    limit = float(os.environ.get("GRADFLOW_TEST_LIMIT", "0"))
    if limit:  # a kernel that hangs costs its process, not all the time there is
        faulthandler.dump_traceback_later(limit, exit=True)


def pytest_runtest_logreport(report: Any) -> None:
    """Write the outcome of a test; leave if the card is lost to this process, for a fresh one to go on."""
    if report.when != "call" and report.passed:
        return
    message = ""
    if not report.passed:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(crash.message if crash else report.longrepr)[:1000]
    note(id=report.nodeid, outcome=report.outcome, seconds=report.duration, message=message)
    if report.failed and any(word in message for word in LOST):
        pytest.exit("the card is lost to this process", returncode=3)

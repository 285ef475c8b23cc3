"""A pytest plugin for `gpu`: every outcome at once as a line of JSON, so that a run cut short leaves what it found."""

from __future__ import annotations

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


def pytest_runtest_logreport(report: Any) -> None:
    """Write the outcome of a test; leave if the card is lost to this process, for a fresh one to go on."""
    path = os.environ.get("GRADFLOW_OUTCOMES")
    if not path or (report.when != "call" and report.outcome == "passed"):
        return
    message = ""
    if report.failed or report.skipped:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(crash.message if crash else report.longrepr)[:1000]
    with open(path, "a") as f:
        f.write(
            json.dumps({"id": report.nodeid, "outcome": report.outcome, "seconds": report.duration, "message": message})
            + "\n"
        )
    if report.failed and any(word in message for word in LOST):
        pytest.exit("the card is lost to this process", returncode=3)

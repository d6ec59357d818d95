"""The benchmarks run; what they measure is nothing a test may judge."""

from __future__ import annotations

import subprocess
import sys

import pytest

from local.service_process import REPOSITORY


@pytest.mark.timeout(180)
def test_quick_run_measures_a_journey_and_names_its_floor() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--only", "jwks"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("| JWKS |"))
    assert "4,000/s" in row
    assert "CPU per request" in done.stdout


def test_unknown_journey_is_refused_with_the_known_ones() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "yodelling"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "jwks" in done.stderr

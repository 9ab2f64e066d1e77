"""``kill -9`` at any moment of a batch. benchmarks/crashes.py does it thirty times."""

from pathlib import Path

import pytest

from crashing import survive
from postgres import postgres

pytestmark = [pytest.mark.process, pytest.mark.model]


def test_killed_while_it_runs(tmp_path: Path) -> None:
    found = survive(tmp_path, 1200, 5, (0.2, 2.0), seed=1)
    assert found.in_status["in_progress"] >= 3
    assert (found.completed, found.failed) == (1140, 60)


def test_killed_while_it_is_read(tmp_path: Path) -> None:
    found = survive(tmp_path, 400, 6, (0.0, 0.1), seed=2, padding=150_000)
    assert found.in_status["validating"] >= 3


@pytest.mark.needs("postgresql")
def test_killed_over_postgresql(tmp_path: Path) -> None:
    with postgres() as cluster:
        found = survive(tmp_path, 1200, 5, (0.2, 2.0), seed=3, url=cluster.url)
    assert found.in_status["in_progress"] >= 3
    assert not (tmp_path / "state" / "batches.db").exists()

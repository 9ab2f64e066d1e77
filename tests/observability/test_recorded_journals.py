"""Decisions that were recorded: a change that is only to tidy the core decides the same.

``embedded`` is ten minutes of mixed load on the preset of that name with a budget of 900 MiB, the fleets are those of
``tests/simulate``, the histories are random ones of ``tests/core/test_properties.py``. All were recorded at commit
5304eac and have been given today's names since. A change that is to decide otherwise records them anew.
"""

import gzip
from pathlib import Path

import pytest

from cohabit.observability.replay import Replay

JOURNALS = sorted((Path(__file__).parent / "journals").glob("*.jsonl.gz"))


@pytest.mark.parametrize("recorded", JOURNALS, ids=lambda path: path.name.partition(".")[0])
def test_recorded_events_give_the_recorded_commands(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(gzip.decompress(recorded.read_bytes()))
    run = Replay(path)
    run.run()
    assert run.events > 10
    assert run.difference is None
    assert not run.cut_off


def test_every_kind_of_journal_is_there() -> None:
    assert {path.name.partition("_")[0].partition(".")[0] for path in JOURNALS} == {"embedded", "fleet", "history"}

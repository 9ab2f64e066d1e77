"""Real inspectors on what was made to hurt: all of it ends within limits, and honest clients are answered."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from cohabit.media import Unreadable
from cohabit.media.images import load
from cohabit.protocol.inspection import Picture, Piece, Sound
from cohabit.runtime.inspectors import Inspectors
from harness import serving, wait_until
from hostile_media import flac, mkv, mp4, png_chunks, scans
from samples import asking, bomb, data_url, picture, tone

pytestmark = pytest.mark.process

MOST_MEMORY = 1 << 30


@pytest.fixture
async def inspectors() -> AsyncIterator[Inspectors]:
    made = Inspectors()
    yield made
    pids = made.pids()
    await made.close()
    assert not any(map(psutil.pid_exists, pids))


async def test_a_picture_and_sound(inspectors: Inspectors) -> None:
    seen = await inspectors.inspect(Picture(data_url(picture()).encode(), 32, text=True), "a")
    drawn, size = load(seen)
    assert (drawn.size, size) == ((32, 24), (64, 48))
    assert await inspectors.inspect(Sound(tone()), "a")


BOMBS: dict[str, Callable[[], Piece]] = {
    "mp4 of 80 million samples": lambda: Sound(mp4(80_000_000)),
    "mp4 of 20 million samples": lambda: Sound(mp4(20_000_000)),
    "mp4 of 1000 tracks": lambda: Sound(mp4(10, 1000)),
    "matroska of many chapters": lambda: Sound(mkv(150_000)),
    "flac of one hertz": lambda: Sound(flac(1, frames=1, block=14_400)),
    "jpeg of many scans": lambda: Picture(scans(4000, 200), 960),
    "png of many chunks": lambda: Picture(png_chunks(100_000), 960),
    "picture of 65,535 pixels a side": lambda: Picture(bomb(65_535, 65_535), 960),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_ends_within_limits(inspectors: Inspectors, name: str) -> None:
    await inspectors.inspect(Picture(picture(), 100), "a")
    (pid,) = inspectors.pids()
    task = asyncio.create_task(inspectors.inspect(BOMBS[name](), "a"))
    peak = 0
    while not task.done():
        try:
            peak = max(peak, psutil.Process(pid).memory_info().rss)
        except psutil.NoSuchProcess:
            break
        await asyncio.sleep(0.01)
    with pytest.raises(Unreadable):
        await task
    assert peak < MOST_MEMORY
    assert load(await inspectors.inspect(Picture(picture(), 100), "b"))[1] == (64, 48)


async def test_honest_pictures_are_seen_beside_clients_who_send_bombs_and_hang_up(inspectors: Inspectors) -> None:
    bomb_ = Sound(mkv(400_000))  # half a minute of the processor
    for client in range(4):
        tasks = [asyncio.create_task(inspectors.inspect(bomb_, f"bomber {client}")) for _ in range(8)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    began = sum(map(_cpu_seconds, inspectors.pids()))
    assert await inspectors.inspect(Picture(picture(), 100), "honest")
    assert sum(map(_cpu_seconds, inspectors.pids())) - began < 5, "nobody works for those who left"


async def test_what_was_sent_is_in_no_core_dump_and_the_limits_hold(inspectors: Inspectors) -> None:
    await inspectors.inspect(Picture(picture(), 100), "a")
    (pid,) = inspectors.pids()
    process = psutil.Process(pid)
    assert process.rlimit(psutil.RLIMIT_AS) == (1 << 30, 1 << 30)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_CPU)[0] < 60
    assert process.nice() == os.getpriority(os.PRIO_PROCESS, 0) + 5 or process.nice() == 5


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_inspector_is_left_by_a_server_that_ends(tmp_path: Path, number: int) -> None:
    missing = f"{{labels: 'file:{tmp_path}/labels.onnx', names: 'file:{tmp_path}/names.json'}}"
    with serving(tmp_path, f"models: {{seer: {{engine: scene, files: {missing}}}}}") as server:
        assert server.workers() == [], "none before the first picture"
        answer = server.http.post("/v1/chat/completions", json={"model": "seer", "messages": asking(picture())})
        assert answer.status_code == 503, "its weights are not there, but the picture was looked at first"
        (pid,) = server.workers()
        assert "cohabit.inspector" in psutil.Process(pid).cmdline()
        os.kill(server.pid, number)
        server.process.wait()
        wait_until(lambda: not running(pid))


def running(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

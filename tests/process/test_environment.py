"""What a worker finds in its environment."""

import asyncio
from pathlib import Path

import pytest

from cohabit.protocol.messages import FromWorker, Hello
from cohabit.runtime.workers.process import WorkerProcess
from harness import PATIENCE

pytestmark = pytest.mark.process


async def test_cards_are_counted_as_the_server_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    said: asyncio.Queue[FromWorker] = asyncio.Queue()
    process = await WorkerProcess.spawn("m", 1, said.put_nowait)
    assert isinstance(await asyncio.wait_for(said.get(), PATIENCE), Hello)
    found = (await asyncio.to_thread(Path(f"/proc/{process.pid}/environ").read_bytes)).split(b"\0")
    assert [each for each in found if each.startswith(b"CUDA_DEVICE_ORDER=")] == [b"CUDA_DEVICE_ORDER=PCI_BUS_ID"]
    await process.stop()
    assert "exit code 0" in await asyncio.wait_for(process.exited(), PATIENCE)

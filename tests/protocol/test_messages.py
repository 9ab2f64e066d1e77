"""Frames and what is in them survive the trip; memory readings are the kernel's."""

import pytest

from cohabit.protocol import messages
from cohabit.protocol.engine import Chunk, EngineRequest, ItemError
from cohabit.protocol.memory import peak_and_resident, reset_peak
from cohabit.protocol.messages import HEADER, decode_from_worker, decode_to_worker, encode
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task


@pytest.mark.parametrize(
    "message",
    [
        messages.Load(ModelSpec(name="m", engine="fake", options={"a": [1, None]}), Device("cpu")),
        messages.RunBatch([EngineRequest(1, Task.CHAT, b'{"x": "\xc3\xa9"}', {"file": b"\0\xff"})]),
        messages.CancelRun(1),
        messages.Credit(1, 2, 3),
        messages.Prepare("fake", Device("cuda", 1)),
        messages.Ping(),
        messages.Trim(),
        messages.Sleep(),
        messages.Wake(),
        messages.Shutdown(),
    ],
)
def test_to_a_worker(message: messages.ToWorker) -> None:
    frame = encode(message)
    assert HEADER.unpack(frame[:4]) == (len(frame) - 4,)
    assert decode_to_worker(frame[4:]) == message


@pytest.mark.parametrize(
    "message",
    [
        messages.Hello(1, 2),
        messages.ImportsDone(),
        messages.Loaded(1, 2, 0.5),
        messages.Loaded(1, 2, 0.5, host_copy=3, bare=0),
        messages.LoadFailed("no", permanent=True),
        Chunk(1, b"\0", 3),
        messages.Finished(1, Task.EMBED, 0.1, 2, 3, error=ItemError(1, "no", param="input")),
        messages.End(1),
        messages.Pong(7),
        messages.TrimDone(1),
        messages.SleepDone(1, 0.5),
    ],
)
def test_from_a_worker(message: messages.FromWorker) -> None:
    assert decode_from_worker(encode(message)[4:]) == message


def test_frame_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_FRAME", 100)
    with pytest.raises(messages.FrameTooLarge):
        encode(Chunk(1, b"x" * 200))


def test_the_peak_is_since_it_was_last_reset() -> None:
    for _ in range(2):
        memory = bytearray(48 << 20)
        memory[::4096] = b"x" * len(range(0, len(memory), 4096))
        peak, idle = peak_and_resident()
        assert peak >= idle > len(memory)
        del memory
        assert reset_peak()
        peak, idle = peak_and_resident()
        assert peak - idle < 16 << 20

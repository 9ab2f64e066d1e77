"""The frames on a worker's link: u32 little-endian length, then one tagged msgpack struct.

One socket carries all of a worker's streams. Chunks are sent against credits (per request, counted in chunks
and bytes), so that a client who does not read stalls nobody: what he may not get yet waits in the worker.
``Finished`` is not held back by credits, since the model is free as soon as the work is done; ``End`` closes
the stream in order.
"""

import struct
from collections.abc import Callable

import msgspec

from cohabit.protocol.engine import Chunk, EngineRequest, ItemError
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task

PROTOCOL_VERSION = 3
MAX_FRAME = 64 << 20  # bytes
CREDIT_CHUNKS = 64
CREDIT_BYTES = 1 << 20
HEADER = struct.Struct("<I")


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """Worker's first word."""

    version: int
    pid: int


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """Import what this engine needs, and take nothing of the device beyond that. Answered by Prepared."""

    engine: str
    device: Device


class ImportsDone(msgspec.Struct, frozen=True, tag="prepared"):
    """Done; the model may be loaded."""


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Bring this model in."""

    spec: ModelSpec
    device: Device


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """The model is ready, or back from its sleep. Bytes are of the worker's process.

    Seconds are counted from the start of the process, without those between Prepared and Load, or, for a wake, from
    the word. ``host_copy`` is what a load that was to keep a copy in host memory has made, ``bare`` what the process
    held before the load.
    """

    idle: int
    load_peak: int
    seconds: float
    host_copy: int = 0
    bare: int | None = None


class LoadFailed(msgspec.Struct, frozen=True, tag="load_failed"):
    """A load, a sleep, a wake or a trim went wrong: the model is not to be used, and the worker is ended."""

    detail: str
    out_of_memory: bool = False
    permanent: bool = False  # trying again cannot help (missing file, bad option)


class RunBatch(msgspec.Struct, frozen=True, tag="run"):
    """Work for the engine, one batch."""

    batch: list[EngineRequest]


class CancelRun(msgspec.Struct, frozen=True, tag="cancel"):
    """The client is gone: stop within one step. Answered by Finished."""

    id: int


class Credit(msgspec.Struct, frozen=True, tag="credit"):
    """The client has taken so much; as much more may be sent."""

    id: int
    chunks: int
    size: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The engine is done with a request, whatever of its answer is still to be sent.

    With ``error`` what was not sent yet is dropped and no End follows.
    """

    id: int
    task: Task
    seconds: float
    peak: int  # bytes of the process, largest since its previous idle moment
    idle: int  # bytes of the process now
    tokens: int = 0
    overrun: int = 0  # tokens generated after the cancel was seen
    cancelled: bool = False
    error: ItemError | None = None


class End(msgspec.Struct, frozen=True, tag="end"):
    """Nothing more of this answer comes."""

    id: int


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Are you there? Answered by the reading thread, so it tells of the process, not of the engine."""


class Pong(msgspec.Struct, frozen=True, tag="pong"):
    """Yes. ``steps`` counts the signs of progress that runs have given so far (``worker.run``)."""

    steps: int = 0


class Trim(msgspec.Struct, frozen=True, tag="trim"):
    """Give caches back."""


class TrimDone(msgspec.Struct, frozen=True, tag="trimmed"):
    """Done; bytes of the process now."""

    idle: int


class Sleep(msgspec.Struct, frozen=True, tag="sleep"):
    """Let go of the weights and stay. No Run comes before the next Loaded."""


class SleepDone(msgspec.Struct, frozen=True, tag="slept"):
    """Done; bytes that the process still holds, seconds since the word."""

    held: int
    seconds: float


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Bring the model back. Answered by Loaded."""


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """Close the engine and leave."""


ToWorker = Prepare | Load | RunBatch | CancelRun | Credit | Ping | Trim | Sleep | Wake | Shutdown
FromWorker = Hello | ImportsDone | Loaded | LoadFailed | Chunk | Finished | End | Pong | TrimDone | SleepDone

_encoder = msgspec.msgpack.Encoder()
decode_to_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_from_worker = msgspec.msgpack.Decoder(FromWorker).decode


class FrameTooLarge(ValueError):
    """A frame over MAX_FRAME: the peer is broken, or the input should have been refused earlier."""


def encode(message: msgspec.Struct) -> bytes:
    """One whole frame. Raises FrameTooLarge."""
    payload = _encoder.encode(message)
    if len(payload) > MAX_FRAME:
        raise FrameTooLarge(f"{len(payload)} bytes in a frame, {MAX_FRAME} allowed")
    return HEADER.pack(len(payload)) + payload


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next payload from a reader that blocks until it has as many bytes as asked for, or the last ones.

    None at the end of the link. Raises FrameTooLarge.
    """
    header = read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    if size > MAX_FRAME:
        raise FrameTooLarge(f"{size} bytes announced, {MAX_FRAME} allowed")
    payload = read(size)
    return payload if len(payload) == size else None

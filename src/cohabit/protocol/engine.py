"""The interface of an engine: the code that runs one kind of model inside a worker process."""

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import msgspec

from cohabit.protocol.memory import give_back
from cohabit.protocol.spec import Device, Estimate, ModelSpec
from cohabit.protocol.tasks import Capability, Task

LONGEST_PICTURE = 2048
"""Pixels of a picture's longer side that are handed to engines which do not say how many they can use."""

Cancelled = Callable[[int], bool]
"""Asked with a request's id between steps (token, sentence, batch): is its client gone?

To ask is a sign of progress, as is every output: a run that gives none for ``max_stall`` is taken to hang, and its
worker is ended. So never ask in a loop that only waits.
"""


class EngineRequest(msgspec.Struct, frozen=True):
    """One item of work. ``body`` is the OpenAI request body of its task, validated, with no other
    fields than OpenAI's and those that the engine declares."""

    id: int
    task: Task
    body: bytes
    blobs: dict[str, bytes] = {}  # sound by field name, as ``media.sound.frames`` reads it


class Chunk(msgspec.Struct, frozen=True, tag="chunk"):
    """A piece of one request's answer.

    ``data`` is one JSON object (what OpenAI puts behind ``data:``, or the whole answer of a plain request)
    or raw audio. ``tokens`` counts what was generated for it, so that a cancelled run can be accounted for.
    """

    id: int
    data: bytes
    tokens: int = 0


class ItemError(msgspec.Struct, frozen=True, tag="item_error"):
    """One request of a batch failed; the others go on.

    ``status`` is 4xx where the client can mend it and 500 where it cannot; ``out_of_memory`` lets the core retry.
    ``message`` says what would do and never quotes the input.
    """

    id: int
    message: str
    status: int = 400
    code: str = "invalid_request"
    param: str | None = None
    out_of_memory: bool = False


Output = Chunk | ItemError

Count = Annotated[int, msgspec.Meta(ge=1)]
"""For options: of what there is at least one, such as threads."""


class NoOptions(msgspec.Struct, forbid_unknown_fields=True):
    """The options of an engine that has none."""


class Derivation(msgspec.Struct, frozen=True):
    """How weights of one form become what an engine reads, once, before anything is loaded."""

    suffix: str  # of the files that need it, such as ``.pth``; others are used as they are
    to: str  # suffix of what is made
    module: str  # run as ``python -m MODULE SOURCE TARGET``; prints why it cannot
    version: int = 1  # raised when it makes something else than before


class Speech(msgspec.Struct, frozen=True):
    """What an engine that speaks can be asked for; the rest is refused before anything is queued."""

    rate: int  # Hz
    slowest: float  # of ``speed``
    fastest: float
    voices: tuple[str, ...] = ("default",)  # names of its own; ``default`` is always among them


class EngineError(Exception):
    """A model cannot be loaded, for a reason its owner can read and act on."""


class Engine(ABC):
    """Runs one model. Made with nothing; ``load`` does the work.

    An engine module is imported by the control plane for its class attributes, so it imports its library
    inside ``load``. Methods run in the worker; ``run`` may be called from ``concurrency`` threads at once
    where ``continuous`` is true, else from one.
    """

    tasks: ClassVar[frozenset[Task]]
    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    """Typed options with defaults; unknown names are refused when the config is read."""
    Parameters: ClassVar[Mapping[Task, type[msgspec.Struct]]] = MappingProxyType({})
    """Fields of a request that it takes beside OpenAI's, by task: see ``protocol.parameters``. Other fields never
    reach it."""
    refused: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Fields that its library would take and that are always a 400 here, with why."""
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    """What it can do beside its tasks; the rest is refused before anything is queued."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Import names that must be there, so that a missing extra is told before anything starts."""
    imports: ClassVar[tuple[str, ...]] = ()
    """Modules that ``load`` imports and that take a while: they are imported first, and need no room on a card."""
    extra: ClassVar[str | None] = None
    """The extra of this package that installs ``libraries``."""
    continuous: ClassVar[bool] = False
    """True if the library batches by itself: requests come singly, ``concurrency`` at once."""
    needs_source: ClassVar[bool] = True
    speech: ClassVar[Speech | None] = None
    """Of engines with the task ``speak``."""
    needs_picture: ClassVar[bool] = False
    """True if a chat without one cannot be answered."""
    longest_picture: ClassVar[int] = LONGEST_PICTURE
    """Pixels of a picture's longer side that it can use: larger ones are made smaller before they get here. Pictures
    come as data URLs of what ``media.pictures.load`` reads, sound as a blob that ``media.sound.frames`` reads."""
    sleeps: ClassVar[bool] = True
    """False where only the end of the process frees what ``load`` took, so that the model is stopped instead."""
    copies: ClassVar[bool] = False
    """True if on a card it sleeps by a copy of its weights in host memory, which ``load`` makes where the spec says
    ``keep_copy``, and which does not change. Without one it is stopped instead."""
    copied: int = 0
    """Bytes of the copy that ``load`` has made; 0 where it was not to, or found no memory for it."""

    @classmethod
    def derivations(cls, options: msgspec.Struct) -> Mapping[str, Derivation]:
        """What is to be made of weights first, by role in ``files``; the model's source is ``source``."""
        del options
        return {}

    @classmethod
    def estimate(cls, spec: ModelSpec, source_bytes: int) -> Estimate:
        """Guess the footprint without loading; ``source_bytes`` is the size of all files on disk, 0 if unknown.

        The default is weights as they are on disk plus a process of 120 MiB.
        """
        process = 120 << 20
        return Estimate(
            idle=process + source_bytes,
            load=process + source_bytes * 3 // 2,
            activation=max(64 << 20, source_bytes // 4),
        )

    @classmethod
    def capabilities_with(cls, options: msgspec.Struct) -> frozenset[Capability]:
        """What it can do beside its tasks with these options; the default is ``capabilities``, whatever they are."""
        return cls.capabilities

    @classmethod
    def check(cls, given: Mapping[str, Any], options: msgspec.Struct) -> None:
        """Look at the parameters of one request for what their types cannot tell. Raises BadParameter.

        Called in the control plane before anything is queued, so it must be cheap whatever a client sends.
        """

    @classmethod
    def units(cls, request: EngineRequest) -> int:
        """A request's size in what the memory of a run grows with: an upper bound, told by its bytes alone.

        Asked in the control plane when the request arrives, so it must be cheap. 0, the default, is for engines
        whose runs take the same whatever is sent, since they preallocate or bound their inputs.
        """
        return 0

    @abstractmethod
    def load(self, spec: ModelSpec, device: Device) -> None:
        """Bring the model in. Raises EngineError if it never can be, MemoryError if it did not fit."""

    @abstractmethod
    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """Answer a batch. A request is done when the iterator ends, unless an ItemError named it before."""

    def warmup(self) -> None:
        """Run once what a first request would pay for. Called after ``load``, before the model is ready."""

    def trim(self) -> None:
        """Give cached but unused memory back. Called on an idle model, and after a load for what that left.

        The default returns what Python and the C library keep of freed memory.
        """
        gc.collect()
        give_back()

    def sleep(self) -> bool:
        """Let go of device memory. True: this instance keeps what makes waking fast, and ``wake`` is called on it.

        False, the default: there is nothing to keep. The worker then closes this instance and drops it, and wakes
        the model by loading a new one; the process stays with what it has imported. Called on an idle model.
        """
        return False

    def wake(self) -> None:
        """Come back from a ``sleep`` that returned true. Raises as ``load`` does."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything; this instance is not used again."""

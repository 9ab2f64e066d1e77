"""What the api may ask of the runtime. The api depends on this, so its tests need no workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cohabit.core.admin import Objection
from cohabit.core.events import AdminRequest
from cohabit.core.snapshot import LISTED
from cohabit.protocol.engine import LONGEST_PICTURE, Speech
from cohabit.protocol.inspection import Piece
from cohabit.protocol.parameters import Declared
from cohabit.protocol.tasks import Capability, Task
from cohabit.runtime.admin import AdminOutcome
from cohabit.runtime.requests import ModelRequest, ResponseStream

MAX_TEXT = 1 << 20  # bytes of text in a request, whatever the model, unless its context is a very long one
BYTES_A_TOKEN = 128  # no text has longer ones throughout: four bytes are common, runs of spaces have some dozens


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A configured model as clients see it."""

    name: str
    engine: str
    tasks: frozenset[Task]
    aliases: tuple[str, ...]
    created: int  # unix seconds, for /v1/models
    context: int | None  # tokens one request may use; None where the engine has no such bound
    capabilities: frozenset[Capability] = frozenset()
    speech: Speech | None = None  # of a model that speaks
    voices: Mapping[str, str] = field(default_factory=dict)  # what clients call its voices -> its own names
    needs_picture: bool = False  # cannot answer a chat without one
    declared: Declared = field(default_factory=Declared)  # what its engine takes beside OpenAI's fields
    longest_picture: int = LONGEST_PICTURE  # pixels of a picture's longer side that it can use

    @property
    def max_text(self) -> int:
        """Bytes of text that one prompt may have: more could not fit into the context."""
        if self.context is None:
            return MAX_TEXT
        return min(self.context * BYTES_A_TOKEN, max(MAX_TEXT, self.context * 8))


@dataclass(frozen=True, slots=True)
class HealthReport:
    """``ready`` is progress, not liveness: red if something waits and nothing goes on."""

    ready: bool
    detail: str


class Service(Protocol):
    """Implemented by ``runtime.server.Server`` and by a fake in the api's tests."""

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """By config name, in the order of the config."""

    def submit(self, call: ModelRequest) -> ResponseStream:
        """Queue a request. Never raises for what is wrong with it: the answer's iterator does (ResponseFailed)."""

    async def inspect(self, piece: Piece, client: str) -> bytes:
        """A picture or sound of a client, made into what a worker may open. Cancelled, it is not opened any further.

        Raises Unreadable, TooBusy.
        """

    def has_room(self, model: str) -> bool:
        """Whether its queue takes another item of a ``/batch``, which leaves half of it to others."""

    def status(self, listed: int = LISTED) -> dict[str, Any]:
        """The core's snapshot as plain data, a versioned schema, with the next ``listed`` requests of each model."""

    async def administer(self, request: AdminRequest, within: float) -> AdminOutcome | Objection:
        """The owner's word to a model that is there; waits for up to so many seconds until it is done."""

    def standing(self, model: str) -> tuple[str, bool]:
        """A model's state, and whether it is pinned."""

    def log_of(self, model: str) -> Sequence[str]:
        """The last lines its worker printed, or the one before if it has none now."""

    def health(self) -> HealthReport:
        """Is there progress?"""

    def metrics(self) -> bytes:
        """Prometheus text format."""

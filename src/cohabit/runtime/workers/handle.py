"""One worker as the control plane knows it."""

import asyncio
from dataclasses import dataclass, field

import structlog

from cohabit.protocol import messages
from cohabit.protocol.spec import ModelSpec
from cohabit.runtime.workers.process import WorkerProcess

log = structlog.get_logger()


@dataclass(slots=True)
class WorkerHandle:
    """A worker, with or without its process yet."""

    id: int
    model: str
    began: float  # when the last load or wake began
    spec: ModelSpec | None = None  # once its files are there
    process: WorkerProcess | None = None
    to_load: bool = False  # False: it is prewarmed: it imports, and waits
    keep_copy: bool = False
    greeted: bool = False
    ready_at: float | None = None
    stop_told: float | None = None
    failed: messages.LoadFailed | None = None  # why it is ended unasked
    blamed: frozenset[int] = frozenset()  # requests that are why
    responses: int = 0  # messages about requests so far
    steps: int = 0  # of its engine, as last reported
    exceeded: int = 0  # bytes it held when it was ended for holding more than it may
    loaded: bool = False  # it has been, so answers may be on their way, even asleep
    done: asyncio.Event = field(default_factory=asyncio.Event)  # with what it was told last

    @property
    def signs(self) -> int:
        """Of progress, so far."""
        return self.responses + self.steps

    def is_within_a_limit(self) -> bool:
        """Whether it is at something that takes its time, and has not taken too long."""
        return self.failed is None and not self.unwanted() and not self.done.is_set()

    def unwanted(self) -> bool:
        """Whether it has been told to stop."""
        return self.stop_told is not None

    def end_for_memory(self, held: int, limit: int) -> None:
        """End it at once, since it holds more bytes than it may. Called from any thread."""
        if self.process is None or self.exceeded:
            return
        detail = f"it held {held >> 20} MiB, more than the {limit >> 20} MiB that it may hold at this moment"
        self.exceeded, self.failed = held, messages.LoadFailed(detail, out_of_memory=True)
        log.warning("worker holds too much memory and is killed", model=self.model, detail=detail)
        self.process.kill()

    def send(self, message: messages.ToWorker) -> None:
        """Send it a message, if there is a process to hear it. Raises FrameTooLarge."""
        if self.process is not None:
            self.process.send(message)

    def coming_in(self, *, since: float) -> float:
        """Seconds after ``since`` during which it was last being loaded or woken."""
        return 0.0 if self.ready_at is None else max(0.0, self.ready_at - max(self.began, since))

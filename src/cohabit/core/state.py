"""Everything the core knows: its models, requests, books and the one claim."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cohabit.core.footprints import Footprint
from cohabit.core.ledger import Ledger
from cohabit.core.lifecycle import Lifecycle, State
from cohabit.core.queues import ModelQueue, Request

if TYPE_CHECKING:
    from cohabit.core.claim import Claim
    from cohabit.core.commands import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPolicy:
    """What the owner says of one model. Seconds; ``priority`` is a weight, more is more share."""

    name: str
    concurrency: int = 1  # requests or batches in flight at once
    max_batch: int = 1  # requests in one dispatch
    slots: int = 1  # compute slots while anything is in flight
    priority: float = 1.0
    pin: bool = False
    sleeps: bool = False  # its engine can let go of the weights and keep its process
    preload: bool = False
    keep_alive: float | None = None  # idle seconds before it is stopped; None: only on pressure
    patience: float = 4.0
    max_wait: float = 30.0
    max_run: float = 600.0
    queue_limit: int = 256


@dataclass(slots=True)
class Model:
    """One model and its worker, if it has one."""

    policy: ModelPolicy
    footprint: Footprint
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    queue: ModelQueue = field(default_factory=ModelQueue)
    running: dict[int, Request] = field(default_factory=dict)  # what the worker holds, ended or not
    batches: list[set[int]] = field(default_factory=list)
    worker: int | None = None
    wanted: bool = False  # to be brought in though nobody waits (preload)
    draining: bool = False  # chosen to leave; takes nothing new
    came_in: float = 0.0
    went_out: float = float("-inf")
    idle_since: float = 0.0
    dispatches: int = 0  # since it came in; what GDSF calls F
    last_used: float = 0.0
    loads: int = 0
    stop_told: float | None = None
    failures: int = 0
    not_before: float = float("-inf")  # no start before, after a failure
    failure: str = ""
    deficit: float = 0.0  # device-seconds it may still use this round; negative: owed
    charged_until: float = 0.0
    infeasible_since: float | None = None
    last_eviction: str = ""

    @property
    def name(self) -> str:
        """Its config name."""
        return self.policy.name

    @property
    def state(self) -> State:
        """Its worker's state."""
        return self.lifecycle.state

    @property
    def busy(self) -> bool:
        """Whether its worker holds any request."""
        return bool(self.running)

    @property
    def waiting_since(self) -> float:
        """When its oldest request arrived, or when the model last went out if that is later.

        Time spent waiting behind one's own model is not the scheduler's debt: counted from the arrival, two
        overloaded models would both be past ``max_wait`` for ever and be switched at every dispatch.
        Raises ValueError if nothing waits.
        """
        return max(self.queue.oldest, self.went_out)


class Books:
    """The whole state. ``out`` collects the commands of the event being handled."""

    def __init__(self, models: Sequence[Model], ledger: Ledger) -> None:
        """Names are unique."""
        self.models = {model.name: model for model in models}
        self.ledger = ledger
        self.requests: dict[int, Request] = {}  # accepted and not yet gone from queue or worker
        self.workers: dict[int, Model] = {}
        self.claim: Claim | None = None
        self.inflation = 0.0  # GDSF's L: the score of the last victim
        self.out: list[Command] = []
        self.worker_count = 0
        self.draining_until: float | None = None  # shutting down
        self.ring: list[str] = [model.name for model in models]  # whose turn in deficit round robin

    @property
    def resident(self) -> Iterator[Model]:
        """Models with a process, whatever it is doing."""
        return iter(self.workers.values())

    def ready(self) -> Iterator[Model]:
        """Models that could be given work or be evicted."""
        return (model for model in self.workers.values() if model.state is State.READY)

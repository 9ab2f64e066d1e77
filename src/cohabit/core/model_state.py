"""What the scheduler knows of one model: what the config says, what it needs, what its worker does, what it has done.

``SchedulerState`` is the only writer of what its indexes are made from. The parts (``InFlight``, ``Share``,
``ModelUsage``, ``ModelHealth``) have one writer each; ``tests/core/test_one_writer.py`` knows which.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from cohabit.core.footprints import Footprint
from cohabit.core.lifecycle import Lifecycle, State
from cohabit.core.queues import ModelQueue, Request

UNLOADED = frozenset({State.STOPPED, State.PREWARMED, State.FAILED, State.SLEEPING})


class Reclaim(StrEnum):
    """How a worker makes room, cheapest first."""

    TRIM = "trim"  # gives its caches back and stays ready
    SLEEP = "sleep"  # lets go of its weights and keeps its process
    STOP = "stop"


@dataclass(slots=True)
class Swap:
    """Room is being made for ``model``, to load it or, if it is ready, to let it run. There is one at a time: bytes
    that come free go to it, so two models never hold a part each and wait for the other's."""

    model: str
    since: float
    need: int  # bytes it must be able to reserve on top of what it holds
    victims: dict[int, Reclaim]  # workers that make room for it, idle already or draining
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPolicy:
    """What the config says of one model. Seconds; ``priority`` is a weight, more is a larger share."""

    name: str
    concurrency: int = 1  # requests or batches in flight at once
    max_batch: int = 1  # requests in one dispatch
    slots: int = 1  # compute slots while anything is in flight
    priority: float = 1.0
    pin: bool = False
    sleeps: bool = False  # its engine can let go of the weights and keep its process
    copies: bool = False  # and it can do so only with a copy of them in host memory, made when it loads
    preload: bool = False
    keep_alive: float | None = None  # idle seconds before it sleeps or stops; None: only on pressure
    patience: float = 4.0
    max_wait: float = 30.0
    max_run: float = 600.0
    queue_limit: int = 256


@dataclass(slots=True)
class BusyPeriod:
    """What runs on a worker between two idle moments. Bytes."""

    given: int  # reserved for the worker when it began
    units: int  # of the one run it is; 0 where runs overlap
    failed: bool = False  # a request of it was not answered
    overran: bool = False  # it has been counted


@dataclass(slots=True)
class InFlight:
    """What the worker has been given."""

    requests: dict[int, Request] = field(default_factory=dict)  # by id, in the order of dispatch, ended or not
    interactive: int = 0  # of them
    batches: list[set[int]] = field(default_factory=list)  # their ids, by dispatch
    busy_period: BusyPeriod | None = None  # the one that goes on, or the last


@dataclass(slots=True)
class Share:
    """Its share of the device's time: deficit round robin."""

    deficit: float = 0.0  # device-seconds it may still use this round; negative: owed
    charged_until: float = 0.0
    background_since: float = float("-inf")  # when it was last given background work


@dataclass(slots=True)
class ModelUsage:
    """When it was loaded and used."""

    loaded_at: float = 0.0
    load_duration: float = 0.0  # seconds of the last load or wake
    unloaded_at: float = float("-inf")  # after it had served
    idle_since: float = 0.0
    last_used: float = 0.0
    dispatches: int = 0  # since it was loaded; what GDSF calls F
    inflation: float = 0.0  # GDSF's L when it was last used
    loads: int = 0
    wakes: int = 0
    last_eviction: str = ""


@dataclass(slots=True)
class ModelHealth:
    """What went wrong."""

    failures: int = 0  # deaths in a row that count against the model
    deaths: int = 0  # in a row, while requests were in flight
    failure: str = ""
    not_before: float = float("-inf")  # no start before, after a failure
    sleep_failed: bool = False  # asleep it still held too much; from then on it is stopped instead
    overruns: int = 0  # how often its worker held more than was reserved for it
    overran_at: float = float("-inf")
    overran: tuple[int, int] = (0, 0)  # bytes it held then, bytes that were reserved


@dataclass(slots=True, eq=False)
class Model:
    """One model and its worker, if it has one."""

    policy: ModelPolicy
    footprint: Footprint
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    queue: ModelQueue = field(default_factory=ModelQueue)
    run: InFlight = field(default_factory=InFlight)
    share: Share = field(default_factory=Share)
    usage: ModelUsage = field(default_factory=ModelUsage)
    health: ModelHealth = field(default_factory=ModelHealth)
    worker: int | None = None
    deadlines: list[tuple[float, int, Request]] = field(default_factory=list)  # a heap; the ended are dropped late
    load_requested: bool = False  # to be loaded though no client waits (preload, or the operator)
    load_requested_at: float | None = None  # when the operator asked for it
    unload_requested: Reclaim | None = None  # the operator wants it to leave in this way; it takes nothing new
    draining: bool = False  # chosen to make room; it takes nothing new
    best_effort: bool = False  # all that waits for it or runs on it is background work, and not urgent
    starved: bool = False  # given nothing for ``max_wait`` though it is ready
    infeasible_since: float | None = None
    backfill_blocked_by: "Model | None" = None  # it would take room that is reserved for this one

    @property
    def name(self) -> str:
        return self.policy.name

    @property
    def state(self) -> State:
        return self.lifecycle.state

    @property
    def busy(self) -> bool:
        """Whether its worker holds any request."""
        return bool(self.run.requests)

    @property
    def unloaded(self) -> bool:
        """Whether it must be loaded before it can serve, and nothing is under way."""
        return self.lifecycle.state in UNLOADED

    @property
    def only_background(self) -> bool:
        """What ``best_effort`` keeps."""
        if self.run.interactive or self.load_requested_at is not None:
            return False
        return self.queue.best_effort if self.queue else bool(self.run.requests)

    @property
    def waiting_since(self) -> float:
        """Time since which a client or the operator has been waiting; ``inf`` if nobody is (preload only)."""
        since = self.queue_waiting_since if self.queue else math.inf
        asked = self.load_requested_at
        return since if asked is None else min(since, max(asked, self.usage.unloaded_at))

    @property
    def queue_waiting_since(self) -> float:
        """When its oldest request arrived, or when the model was last unloaded if that is later.

        Time spent waiting behind one's own model is not the scheduler's debt: counted from the arrival, two
        overloaded models would both be past ``max_wait`` all the time and be swapped at every dispatch.
        Raises IndexError if nothing waits.
        """
        return max(self.queue.oldest, self.usage.unloaded_at)

"""Everything the core knows: its models, requests, books and the one claim."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from cohabit.core.deadlines import Deadlines
from cohabit.core.footprints import Footprint
from cohabit.core.ledger import Account, Ledger
from cohabit.core.lifecycle import STAYS, Lifecycle, State
from cohabit.core.queues import ModelQueue, Request
from cohabit.core.waiters import Waiters

if TYPE_CHECKING:
    from cohabit.core.busy_periods import BusyPeriod
    from cohabit.core.commands import Command

_OUT = frozenset({State.STOPPED, State.PREWARMED, State.FAILED, State.SLEEPING})


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
    need: int  # bytes it must be able to book on top of what it holds
    victims: dict[int, Reclaim]  # workers that make room for it, idle already or draining
    why: str


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
    copies: bool = False  # and it can do so only with a copy of them in host memory, made when it loads
    preload: bool = False
    keep_alive: float | None = None  # idle seconds before it sleeps or stops; None: only on pressure
    patience: float = 4.0
    max_wait: float = 30.0
    max_run: float = 600.0
    queue_limit: int = 256


@dataclass(slots=True, eq=False)
class Model:
    """One model and its worker, if it has one."""

    policy: ModelPolicy
    footprint: Footprint
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    queue: ModelQueue = field(default_factory=ModelQueue)
    running: dict[int, Request] = field(default_factory=dict)  # what the worker holds, ended or not
    interactive: int = 0  # of those that run
    batches: list[set[int]] = field(default_factory=list)
    deadlines: list[tuple[float, int, Request]] = field(default_factory=list)  # a heap; the ended are dropped late
    busy_period: "BusyPeriod | None" = None  # what runs, or ran last
    worker: int | None = None
    load_requested: bool = False  # to be brought in though no client waits (preload, or its owner)
    load_requested_at: float | None = None  # its owner asked for it
    unload_requested: Reclaim | None = None  # its owner wants it to leave so; takes nothing new
    draining: bool = False  # chosen to leave; takes nothing new
    loaded_at: float = 0.0
    load_duration: float = 0.0  # seconds that it took to come in
    unloaded_at: float = float("-inf")  # after it had served
    idle_since: float = 0.0
    dispatches: int = 0  # since it came in; what GDSF calls F
    inflation: float = 0.0  # GDSF's L when it was last used
    last_used: float = 0.0
    loads: int = 0
    wakes: int = 0
    failures: int = 0  # deaths in a row that count against the model
    deaths: int = 0  # in a row, while requests were in flight
    not_before: float = float("-inf")  # no start before, after a failure
    failure: str = ""
    overruns: int = 0  # how often its worker held more than was booked for it
    overran_at: float = float("-inf")
    overran: tuple[int, int] = (0, 0)  # bytes it held then, bytes that were booked
    sleep_failed: bool = False  # asleep it still held too much; it is stopped instead from then on
    deficit: float = 0.0  # device-seconds it may still use this round; negative: owed
    charged_until: float = 0.0
    best_effort: bool = False  # all that waits for it or runs on it is background work, and not urgent
    background_since: float = float("-inf")  # when it was last given any
    starved: bool = False  # given nothing for ``max_wait`` though it is ready
    infeasible_since: float | None = None
    backfill_blocked_by: "Model | None" = None  # would take room that is kept for this one
    due: float | None = None  # its next moment on the agenda
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
    def out(self) -> bool:
        """Whether it must be brought in before it can serve, and nothing is under way."""
        return self.lifecycle.state in _OUT

    @property
    def background_only(self) -> bool:
        """What ``best_effort`` keeps."""
        if self.interactive or self.load_requested_at is not None:
            return False
        return self.queue.best_effort if self.queue else bool(self.running)

    @property
    def waiting_since(self) -> float:
        """Since when a client waits for it or its owner wants it in. Infinity: nobody does, it may be preloaded."""
        since = self.queue_waiting_since if self.queue else math.inf
        return since if self.load_requested_at is None else min(since, max(self.load_requested_at, self.unloaded_at))

    @property
    def queue_waiting_since(self) -> float:
        """When its oldest request arrived, or when the model last went out if that is later.

        Time spent waiting behind one's own model is not the scheduler's debt: counted from the arrival, two
        overloaded models would both be past ``max_wait`` for ever and be switched at every dispatch.
        Raises IndexError if nothing waits.
        """
        return max(self.queue.oldest, self.unloaded_at)

    def note_unloaded(self, now: float) -> None:
        """It has fallen asleep or exited. Who waits for it waits anew if it has served anybody since it came in."""
        if self.dispatches and self.unloaded_at <= self.loaded_at:
            self.unloaded_at = now


class SchedulerState:
    """The whole state, and what is derived from it so that no decision has to look at every model.

    ``out`` collects the commands of the event being handled. Whoever changes a model calls ``changed`` for it.
    """

    def __init__(self, models: Sequence[Model], ledger: Ledger) -> None:
        """Names are unique."""
        self.models = {model.name: model for model in models}
        self.pinned = [model for model in models if model.policy.pin]
        self.ledger = ledger
        self.requests: dict[int, Request] = {}  # accepted and not yet gone from queue or worker
        self.workers: dict[int, Model] = {}
        self.swap: Swap | None = None
        self.inflation = 0.0  # GDSF's L: the score of the last victim
        self.out: list[Command] = []
        self.worker_count = 0
        self.draining_until: float | None = None  # shutting down
        self.unreadable: str | None = None  # why the device cannot be read, while it cannot
        self.busy: dict[int, Model] = {}  # by worker
        self.runnable: dict[str, Model] = {}  # ready, with work, taking it: the ring of deficit round robin
        self.starved: dict[str, Model] = {}  # those of them whose turn cannot wait any longer
        self.waiters = Waiters()
        self.deadlines = Deadlines()
        self.unload_requested: dict[str, Model] = {}  # told to leave, and not gone yet
        self.prewarmed: Model | None = None  # the one whose process waits for room
        self.touched: dict[str, Model] = {}
        self.next_try: float | None = None  # when a waiter may be let in although nothing else has happened

    @property
    def with_process(self) -> Iterator[Model]:
        """Models with a process, whatever it is doing."""
        return iter(self.workers.values())

    def account(self, model: Model) -> Account:
        """What a model with a process holds."""
        assert model.worker is not None
        return self.ledger.accounts[model.worker]

    def can_sleep(self, model: Model) -> bool:
        """Whether its worker, if it has one, may be put to sleep."""
        policy = model.policy
        return policy.sleeps and not model.sleep_failed and (not policy.copies or model.worker in self.ledger.copies)

    def changed(self, model: Model) -> None:
        """Its queue, state, or what runs on it is not what it was: keep what is derived from them true."""
        name, worker_state = model.policy.name, model.lifecycle.state
        waits = bool(model.queue)
        model.best_effort = model.background_only
        if worker_state is State.PREWARMED:
            self.prewarmed = model
        elif model is self.prewarmed:
            self.prewarmed = None
        if model.unload_requested is not None or name in self.unload_requested:
            self._note_dismissed(model)
        free = not model.draining and model.unload_requested is None
        if waits and worker_state is State.READY and free and not self.account(model).trimming:
            self.runnable.setdefault(name, model)
        else:
            self.runnable.pop(name, None)
        if model.starved and (name not in self.runnable or model.queue.best_effort):
            model.starved = False
            del self.starved[name]
        idle = worker_state is State.READY and not model.running and free
        if (worker_state in _OUT and (waits or model.load_requested)) or (idle and waits):
            self.waiters.add(model)
        else:
            self.waiters.discard(model)
        self.touched[name] = model

    def room_has_changed(self) -> None:
        """What was feasible may be so no more, and the other way round."""
        for model in self.waiters:
            self.touched[model.policy.name] = model

    def _note_dismissed(self, model: Model) -> None:
        if model.lifecycle.state not in STAYS:
            model.unload_requested = None
        if model.unload_requested is None:
            self.unload_requested.pop(model.policy.name, None)
        else:
            self.unload_requested[model.policy.name] = model

"""The scheduler's state, and the only code that changes what its indexes are made from.

Decisions read the state and call the methods below; each method leaves every index true. A decision that reads
``runnable`` or ``waiters`` looks at few models, however many there are.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cohabit.core.commands import Command
from cohabit.core.deadlines import Deadlines
from cohabit.core.ledger import Account, Ledger
from cohabit.core.lifecycle import STAYS, Move, State
from cohabit.core.model_state import UNLOADED, BusyPeriod, Model, Reclaim, Swap
from cohabit.core.queues import Request
from cohabit.core.waiters import Waiters


class SchedulerState:
    """Models, requests, workers and the swap, with indexes over them. ``out`` collects an event's commands."""

    def __init__(self, models: Sequence[Model], ledger: Ledger) -> None:
        """Names are unique."""
        self.models = {model.name: model for model in models}
        self.pinned = [model for model in models if model.policy.pin]
        self.ledger = ledger
        self.requests: dict[int, Request] = {}  # accepted and not yet gone from queue or worker
        self.workers: dict[int, Model] = {}  # models with a process, whatever it does
        self.swap: Swap | None = None
        self.inflation = 0.0  # GDSF's L: the score of the last victim
        self.out: list[Command] = []
        self.draining_until: float | None = None  # shutting down
        self.unreadable: str | None = None  # why the device cannot be read, while it cannot
        self.deadlines = Deadlines()
        self.next_try: float | None = None  # when a waiter may be loaded although nothing else has happened
        # indexes
        self.busy: dict[int, Model] = {}  # by worker
        self.runnable: dict[str, Model] = {}  # ready, with work, taking it: the ring of deficit round robin
        self.starved: dict[str, Model] = {}  # those of them whose turn cannot wait any longer
        self.waiters = Waiters()  # models that lack room
        self.leaving: dict[str, Model] = {}  # told to leave by the operator, and not gone yet
        self.prewarmed: Model | None = None  # the one whose process waits for room
        self._worker_count = 0
        self._changed: dict[str, Model] = {}

    # reading

    def account(self, model: Model) -> Account:
        """What a model with a process holds."""
        assert model.worker is not None
        return self.ledger.accounts[model.worker]

    def can_sleep(self, model: Model) -> bool:
        """Whether its worker, if it has one, may be put to sleep."""
        policy = model.policy
        if not policy.sleeps or model.health.sleep_failed:
            return False
        return not policy.copies or model.worker in self.ledger.copies

    def waiting(self, now: float) -> Iterator[Model]:
        """Models that lack room, the most urgent first. Nothing may change meanwhile."""
        return (self.models[name] for name in self.waiters.by_urgency(now))

    def due(self, now: float) -> list[Model]:
        """Models whose moment has come; each counts as changed."""
        models = [self.models[name] for name in self.deadlines.due(now)]
        for model in models:
            self._update(model)
        return models

    def changed(self) -> list[Model]:
        """Models that something has happened to since this was last called."""
        models = list(self._changed.values())
        self._changed.clear()
        return models

    def emit(self, command: Command) -> None:
        """Let the shell do something."""
        self.out.append(command)

    # requests

    def enqueue(self, request: Request) -> None:
        """It is accepted, and waits."""
        model = self.models[request.model]
        self.requests[request.id] = request
        model.queue.push(request)
        if request.deadline is not None:
            heapq.heappush(model.deadlines, (request.deadline, request.id, request))
        self._update(model)

    def dequeue(self, request: Request) -> None:
        """A waiting request has ended."""
        model = self.models[request.model]
        request.ended = True
        model.queue.remove(request)
        del self.requests[request.id]
        self._update(model)

    def requeue(self, request: Request) -> None:
        """It was on a worker and is tried once more, alone, before all others."""
        model = self.models[request.model]
        request.retried = True
        request.dispatched = request.cancelled = None
        model.queue.push_front(request)
        self._update(model)

    def forget(self, request: Request) -> None:
        """It has ended, and no worker holds it any more."""
        request.ended = True
        del self.requests[request.id]

    def cancel_sent(self, request: Request, now: float) -> None:
        """Its worker is told to stop it."""
        request.cancelled = now
        self._update(self.models[request.model])

    def end(self, request: Request) -> None:
        """Its client has an answer or an error, or is gone; the worker may still hold it."""
        request.ended = True

    def set_urgent(self, model: Model, *, urgent: bool) -> None:
        """Whether background work that waits counts as interactive."""
        model.queue.urgent = urgent
        self._update(model)

    # runs

    def run_started(self, model: Model, batch: Sequence[Request], activation: int, units: int, now: float) -> None:
        """A batch goes to an idle worker, for which ``activation`` bytes are reserved, or joins what runs there.
        ``units`` are those of a run that runs alone."""
        assert model.worker is not None
        run = model.run
        if not run.requests:
            self.ledger.slots_used += model.policy.slots
            self.ledger.run(model.worker, activation)
            run.busy_period = BusyPeriod(self.account(model).held, units)
            self.busy[model.worker] = model
        for request in batch:
            request.dispatched = now
            run.requests[request.id] = request
            run.interactive += not request.background
        run.batches.append({request.id for request in batch})
        model.usage.dispatches += len(batch)
        model.usage.inflation = self.inflation
        model.usage.last_used = now
        self._end_starvation(model)
        self._update(model)

    def run_ended(self, model: Model, request_ids: Iterable[int], now: float) -> None:
        """These requests are off the worker, one way or the other. What their run reserved is free once nothing of
        the model runs."""
        run = model.run
        for request_id in request_ids:
            request = run.requests.pop(request_id)
            run.interactive -= not request.background
            for batch in run.batches:
                batch.discard(request_id)
        run.batches = [batch for batch in run.batches if batch]
        if not run.requests:
            assert model.worker is not None
            self.ledger.slots_used -= model.policy.slots
            self.ledger.rest(model.worker, now)
            del self.busy[model.worker]
            model.usage.idle_since = model.usage.last_used = now
        self._update(model)

    def starve(self, model: Model) -> None:
        """Its turn cannot wait any longer: nobody overtakes it."""
        model.starved = True
        self.starved[model.policy.name] = model

    def turn_to(self, model: Model) -> None:
        """Its turn lasts until its quantum is spent, then the ring goes on behind it: those before it come last."""
        while (name := next(iter(self.runnable))) != model.policy.name:
            self.runnable[name] = self.runnable.pop(name)

    # workers

    def prewarm_started(self, model: Model, size: int, now: float) -> int:
        """A process of ``size`` bytes is started before there is room for its model; returns the worker."""
        worker = self._new_worker(model)
        model.lifecycle.move(Move.PREWARM, now)
        self.ledger.prewarm(worker, size)
        self._update(model)
        return worker

    def load_started(self, model: Model, host_copy: int, now: float) -> int:
        """It is loaded or, if it sleeps, woken; returns the worker. A load may make a copy of ``host_copy`` bytes in
        host memory; 0: it makes none."""
        model.load_requested, model.load_requested_at = False, None
        model.usage.dispatches = 0
        model.usage.inflation = self.inflation
        worker = self._new_worker(model) if model.worker is None else model.worker
        self.ledger.load(worker, model.footprint.load_need)
        if model.state is State.SLEEPING:
            model.lifecycle.move(Move.WAKE, now)
        else:
            model.lifecycle.move(Move.START, now)
            if host_copy:
                self.ledger.host_copy(worker, host_copy)
        self._update(model)
        return worker

    def loaded(self, model: Model, idle: int, now: float) -> None:
        """A load or a wake has ended well, and the process holds ``idle`` bytes."""
        assert model.worker is not None
        usage = model.usage
        usage.load_duration = now - model.lifecycle.since
        model.lifecycle.move(Move.LOADED, now)
        self.ledger.settle(model.worker, idle)
        usage.loaded_at = usage.idle_since = usage.last_used = now
        self._update(model)

    def exit_started(self, model: Model, now: float) -> None:
        """Its worker is told to end."""
        self._leave(model, Move.STOP, 0, now)

    def sleep_started(self, model: Model, remains: int, now: float) -> None:
        """Its worker is told to let go of the weights; ``remains`` bytes are expected to stay."""
        self._leave(model, Move.SLEEP, remains, now)

    def slept(self, model: Model, held: int, now: float) -> None:
        """It has let go of its weights and says that it holds ``held`` bytes."""
        assert model.worker is not None
        model.lifecycle.move(Move.SLEPT, now)
        self.ledger.sleep(model.worker, held, now)
        self._note_unloaded(model, now)
        self._update(model)

    def trim_started(self, model: Model) -> None:
        """An idle worker is told to give its caches back."""
        assert model.worker is not None
        self.ledger.trim(model.worker)
        self._update(model)

    def trimmed(self, model: Model, now: float) -> None:
        """It has done so."""
        assert model.worker is not None
        self.ledger.trimmed(model.worker, now)
        self._update(model)

    def exited(self, model: Model, exceeded: int, now: float) -> None:
        """Its process is reaped. ``exceeded`` is what it held if it was ended for holding more than its limit."""
        assert model.worker is not None
        failed_load = model.state is State.STARTING
        model.lifecycle.move(Move.EXITED, now)
        self.ledger.close(model.worker, now, exceeded)
        del self.workers[model.worker]
        model.worker = None
        model.draining = False
        self._note_unloaded(model, now)
        if failed_load:
            model.usage.unloaded_at = now  # its requests wait anew, behind those that its load has held up
        self._update(model)

    def given_up(self, model: Model, now: float) -> None:
        """It does not start; the next start is a probe."""
        model.lifecycle.move(Move.GIVE_UP, now)
        self._update(model)

    # the swap

    def swap_started(self, swap: Swap) -> None:
        """There is none. Victims that are ready take nothing new from now on."""
        self.swap = swap
        for worker, chosen in swap.victims.items():
            if chosen is not Reclaim.TRIM:
                victim = self.workers[worker]
                victim.draining = victim.state is State.READY
                self._update(victim)

    def swap_ended(self) -> None:
        """It is done, or cancelled: victims that still drain go on serving."""
        assert self.swap is not None
        victims = self.swap.victims
        self.swap = None
        for worker in victims:
            victim = self.workers[worker]
            victim.draining = False
            self._update(victim)

    def victim_done(self, worker: int) -> None:
        """It has made what room it will make."""
        assert self.swap is not None
        del self.swap.victims[worker]

    # what the operator asks for, and the device

    def load_wanted(self, model: Model, since: float | None) -> None:
        """It is to be loaded though no client waits; ``since`` is None for a preload, for which nobody makes room."""
        model.load_requested = True
        model.load_requested_at = since
        self._update(model)

    def load_unwanted(self, model: Model) -> None:
        """It is not to be loaded unless a client waits."""
        model.load_requested, model.load_requested_at = False, None
        self._update(model)

    def unload_wanted(self, model: Model, how: Reclaim | None) -> None:
        """It is to leave in this way once it is idle; None: not any more."""
        model.unload_requested = how
        self._update(model)

    def pin(self, model: Model, *, pinned: bool) -> None:
        """It may not be evicted, or as any other. A victim that is pinned stays."""
        model.policy = replace(model.policy, pin=pinned)
        self.pinned = [one for one in self.models.values() if one.policy.pin]
        if pinned:
            model.unload_requested = None
            if self.swap is not None and model.worker in self.swap.victims:
                del self.swap.victims[model.worker]
                model.draining = False
        self._update(model)
        self.room_changed()

    def drain(self, until: float) -> None:
        """The server shuts down: nothing new is accepted."""
        self.draining_until = until

    def device_lost(self, why: str) -> None:
        """It cannot be read."""
        self.unreadable = why
        self.room_changed()

    def device_found(self) -> None:
        """It can be read again."""
        self.unreadable = None
        self.room_changed()

    def room_changed(self) -> None:
        """What was feasible may be so no more, and the other way round: look at every waiter again."""
        for name in self.waiters:
            self._changed[name] = self.models[name]

    def _new_worker(self, model: Model) -> int:
        self._worker_count += 1
        model.worker = self._worker_count
        self.workers[model.worker] = model
        return model.worker

    def _leave(self, model: Model, move: Move, remains: int, now: float) -> None:
        assert model.worker is not None
        model.lifecycle.move(move, now)
        model.draining = False
        self.ledger.leave(model.worker, remains)
        self._update(model)

    def _note_unloaded(self, model: Model, now: float) -> None:
        """Its requests wait anew if it has served any since it was loaded."""
        usage = model.usage
        if usage.dispatches and usage.unloaded_at <= usage.loaded_at:
            usage.unloaded_at = now

    def _end_starvation(self, model: Model) -> None:
        if model.starved:
            model.starved = False
            del self.starved[model.policy.name]

    def _update(self, model: Model) -> None:
        """Keep the indexes true: its queue, its worker's state or what runs on it has changed."""
        name, worker_state = model.policy.name, model.lifecycle.state
        waits = bool(model.queue)
        model.best_effort = model.only_background
        if worker_state is State.PREWARMED:
            self.prewarmed = model
        elif model is self.prewarmed:
            self.prewarmed = None
        if model.unload_requested is not None or name in self.leaving:
            self._update_leaving(model)
        free = not model.draining and model.unload_requested is None
        if waits and worker_state is State.READY and free and not self.account(model).trimming:
            self.runnable.setdefault(name, model)
        else:
            self.runnable.pop(name, None)
        if model.starved and (name not in self.runnable or model.queue.best_effort):
            self._end_starvation(model)
        idle = worker_state is State.READY and not model.run.requests and free
        if (worker_state in UNLOADED and (waits or model.load_requested)) or (idle and waits):
            allowed = math.inf if model.best_effort else model.policy.max_wait
            self.waiters.add(name, since=model.waiting_since, allowed=allowed)
        else:
            self.waiters.discard(name)
        self._changed[name] = model

    def _update_leaving(self, model: Model) -> None:
        if model.lifecycle.state not in STAYS:
            model.unload_requested = None
        if model.unload_requested is None:
            self.leaving.pop(model.policy.name, None)
        else:
            self.leaving[model.policy.name] = model

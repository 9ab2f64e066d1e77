"""The runtime put together: what ``cohabit serve`` runs behind its HTTP front."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import structlog

from cohabit.core.admin import Objection
from cohabit.core.admission import SHUTTING_DOWN
from cohabit.core.commands import Command, Rejection
from cohabit.core.controller import Controller
from cohabit.core.events import (
    AdminRequest,
    DeviceMeasured,
    Event,
    RequestArrived,
    ShutdownRequested,
    Started,
)
from cohabit.core.eviction import Policy
from cohabit.core.fit import awaits_reading
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import Model
from cohabit.core.snapshot import LISTED, Alert, Severity, snapshot
from cohabit.devices import DeviceReader
from cohabit.engines.registry import engine_class
from cohabit.protocol import spec
from cohabit.protocol.inspection import Piece
from cohabit.runtime.admin import AdminOutcome, AdminRequests
from cohabit.runtime.control_loop import ControlLoop, Observe
from cohabit.runtime.effects import Effects
from cohabit.runtime.inflight import InFlightRequests, Watcher
from cohabit.runtime.inspectors import Inspectors
from cohabit.runtime.requests import SERVER_FAILED, ModelRequest, ResponseStream
from cohabit.runtime.sampler import Beside, Sampler
from cohabit.runtime.service import HealthReport, ModelInfo
from cohabit.runtime.stalls import StallDetector
from cohabit.runtime.supervision import TaskSupervisor
from cohabit.runtime.workers.guard import Guard
from cohabit.runtime.workers.supervisor import Launch, Supervisor
from cohabit.runtime.workers.watchdog import Watchdog

log = structlog.get_logger()


class Server:
    """Implements ``service.Service``. Lives in one event loop, the main thread's."""

    def __init__(
        self,
        *,
        infos: Sequence[ModelInfo],
        models: Sequence[Model],
        launches: Mapping[str, Launch],
        ledger: Ledger,
        policy: Policy,
        device: DeviceReader,
        place: spec.Device,
        stall: float = 60.0,
        watcher: Watcher,
        observers: Sequence[Observe] = (),
        exposition: Callable[[], bytes],
        inspection: int = 0,
    ) -> None:
        """Must be made inside the running event loop. ``exposition`` renders the metrics.

        Health is red once nothing has gone on for ``stall`` seconds though something waits. ``inspection`` bytes are
        kept for what opens pictures and sound.
        """
        self._models = {info.name: info for info in infos}
        self._engines = {info.name: engine_class(info.engine) for info in infos}
        self._exposition = exposition
        self._ids = itertools.count(1)
        self._halted = asyncio.Event()
        self._ended_with: Rejection | None = None
        self._kind = place.kind if place.kind == "cpu" else f"{place.kind}:{place.index}"
        self._inflight = InFlightRequests(post=self._post, watcher=watcher)
        self._supervisor = Supervisor(
            launches,
            place,
            on_message=self._inflight.on_message,
            on_worker_lost=self._inflight.on_worker_lost,
            post=self._post,
            fail=self._fail,
        )
        effects = Effects(self._supervisor, self._inflight, halt=self._halted.set)
        self.loop = ControlLoop(Controller(models, ledger, policy), effects.execute, observers)
        self.loop.when_failed(self._failed)
        self.loop.subscribe(self._handled)
        self.tasks = TaskSupervisor(self._fail)
        self.failure = asyncio.Event()
        """Set once the server has failed: nothing is served any more, and the process is to exit with 1."""
        self._kept: list[asyncio.Task[None]] = []
        self._admin = AdminRequests(self.loop)
        self._inspectors = Inspectors()
        self._sampler = Sampler(device, self._pids, self.loop.post, Beside(self._inspectors.pids, inspection))
        self._watchdog = Watchdog(self._supervisor.processes)
        max_stall = {name: launch.max_stall for name, launch in launches.items()}
        self._stalls = StallDetector(
            self._supervisor.workers,
            self._inflight,
            after=stall,
            max_stall=max_stall,
            end=self._supervisor.end_stalled,
        )
        self._stall = stall
        self._guard = Guard(self.loop.controller.state, self._supervisor.workers, on_card=place.kind != "cpu")
        self.loop.subscribe(self._guard.handled)

    def start(self) -> None:
        """Begin: sample the device, bring in what is to be preloaded."""
        asyncio.get_running_loop().set_exception_handler(self.tasks.unhandled)
        self._kept = [
            self.tasks.keep("sampler", self._sampler.run),
            self.tasks.keep("sampler watch", self._sampler.watch),
            self.tasks.keep("watchdog", self._watchdog.run),
            self.tasks.keep("stall detector", self._stalls.run),
            self.tasks.keep("memory guard", self._guard.run),
        ]
        self.loop.post(Started())

    async def stop(self, drain: float) -> None:
        """Take nothing new, let what was accepted finish for up to ``drain`` seconds, leave no worker.

        Ends sooner if ``abort`` is called, or if the server fails.
        """
        self.loop.post(ShutdownRequested(drain))
        try:
            async with asyncio.timeout(drain + 15.0):
                await self._halted.wait()
        except TimeoutError:
            log.warning("not everything ended in time; killing what is left")
            self.abort(SHUTTING_DOWN)
        await self._inspectors.close()
        for task in self._kept:
            task.cancel()

    def abort(self, rejection: Rejection) -> None:
        """End at once: all requests with this, all workers by a kill. Later requests end with it too."""
        if self._ended_with is None:
            self._ended_with = rejection
            self.loop.stop()
            self._inflight.reject_all(rejection)
            self._supervisor.kill_all()
            self._halted.set()

    # service.Service

    @property
    def models(self) -> Mapping[str, ModelInfo]:
        """By config name."""
        return self._models

    def submit(self, call: ModelRequest) -> ResponseStream:
        """Queue a request."""
        work = call.work(next(self._ids))
        engine = self._engines.get(call.model)
        units = engine.units(work) if engine is not None else 0
        stream = self._inflight.open(work)
        if self._ended_with is not None:
            self._inflight.reject(work.id, self._ended_with)
            return stream
        deadline = None if call.timeout is None else stream.arrived + call.timeout
        size = len(call.body) + sum(map(len, call.blobs.values()))
        self.loop.post(
            RequestArrived(work.id, call.model, call.client, deadline, call.batch, units, call.background, size)
        )
        return stream

    async def inspect(self, piece: Piece, client: str) -> bytes:
        """A picture or sound of a client, made into what a worker may open."""
        return await self._inspectors.inspect(piece, client)

    def has_room(self, model: str) -> bool:
        """Whether less than half of its queue is taken."""
        record = self.loop.controller.state.models[model]
        return record.queue.interactive.count < max(1, record.policy.queue_limit // 2)

    def status(self, listed: int = LISTED) -> dict[str, Any]:
        """The core's snapshot, with what only the shell knows."""
        state = snapshot(self.loop.controller.state, time.monotonic(), self._kind, listed)
        state["alerts"] += map(asdict, self.alerts())
        pids = {worker.model: worker.process for worker in self._supervisor.workers.values()}
        for entry in state["models"]:
            info = self._models[entry["name"]]
            process = pids.get(info.name)
            entry["engine"] = info.engine
            entry["tasks"] = sorted(info.tasks)
            entry["aliases"] = list(info.aliases)
            entry["pid"] = process.pid if process is not None else None
        return state

    def alerts(self) -> Iterator[Alert]:
        """What the core cannot tell."""
        yield from self.tasks.alerts()
        yield from self._supervisor.alerts()
        stall = self._stalled()
        if stall is not None:
            yield Alert("stalled", Severity.CRITICAL, stall)

    async def administer(self, request: AdminRequest, within: float) -> AdminOutcome | Objection:
        """Of a model that is there."""
        return await self._admin.request(request, within)

    def standing(self, model: str) -> tuple[str, bool]:
        """Its state, and whether it is pinned."""
        record = self.loop.controller.state.models[model]
        return record.state.value, record.policy.pin

    def log_of(self, model: str) -> Sequence[str]:
        """The last lines its worker printed, or the one before."""
        return self._supervisor.log_of(model)

    def health(self) -> HealthReport:
        """Red when the server has failed, is leaving, does not know its device, or makes no progress."""
        if self.failure.is_set():
            return HealthReport(False, SERVER_FAILED.detail)
        state = self.loop.controller.state
        if state.draining_until is not None:
            return HealthReport(False, "shutting down")
        if state.unreadable is not None:
            return HealthReport(False, f"the device cannot be read: {state.unreadable}")
        stall = self._stalled()
        if stall is not None:
            return HealthReport(False, stall)
        return HealthReport(True, "ok")

    def metrics(self) -> bytes:
        """Prometheus text format."""
        return self._exposition()

    def _fail(self, task: str, error: BaseException) -> None:
        self.loop.fail(task, error)

    def _failed(self) -> None:
        self.failure.set()
        self.abort(SERVER_FAILED)

    def _stalled(self) -> str | None:
        if not self._stalls.stalled(time.monotonic()):
            return None
        return f"requests wait, and nothing has gone on for {self._stall:g} s (server.stall)"

    def _pids(self) -> dict[int, int]:
        return {worker: process.pid for worker, process in self._supervisor.processes().items()}

    def _post(self, event: Event) -> None:
        self.loop.post(event)  # which is made after those that post

    def _handled(self, event: Event, _commands: Sequence[Command], _now: float) -> None:
        """Has the device read where somebody waits to see free what has ended, now or before he came."""
        if not isinstance(event, DeviceMeasured) and awaits_reading(self.loop.controller.state):
            self._sampler.soon()

"""Drives one worker as the core would, and notes what its model takes."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from cohabit.core.commands import (
    Command,
    Dispatch,
    Reject,
    Rejection,
    RejectReason,
    SleepWorker,
    StartWorker,
    StopCause,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import Event, RequestFailed, RequestFinished, Slept, WorkerExited, WorkerReady
from cohabit.core.model_state import ModelPolicy
from cohabit.protocol import messages
from cohabit.protocol.spec import Device
from cohabit.runtime.effects import Effects
from cohabit.runtime.inflight import InFlightRequests
from cohabit.runtime.profile_store import Profile
from cohabit.runtime.requests import ModelRequest, ResponseFailed, ResponseStream
from cohabit.runtime.supervision import awaited
from cohabit.runtime.workers.supervisor import Launch, Supervisor

STEPS = ("loading", "running", "trimming", "falling asleep", "waking", "running again", "stopping")
WHY = "to be measured"


class MeasureFailed(Exception):
    """A model could not be measured: one line that says why."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """Of one model, in bytes and seconds. None: there was nothing to measure it by."""

    idle: int
    load: int
    load_seconds: float
    peak: int | None = None  # of the whole process while it ran
    sleep_resident: int | None = None
    host_copy: int | None = None  # in host memory
    prewarmed: int | None = None  # by the process before the load
    sleep_seconds: float | None = None
    wake_seconds: float | None = None
    exit_seconds: float | None = None

    @property
    def activation(self) -> int | None:
        """What running adds."""
        return None if self.peak is None else max(0, self.peak - self.idle)

    def profile(self, model: str, before: Profile | None) -> Profile:
        """To be kept. Real requests may have shown that more is needed, and only they tell how long they take."""
        return Profile(
            model=model,
            idle=self.idle,
            load=self.load,
            activation=max(self.activation or 0, before.activation if before else 0),
            sleep_resident=self.sleep_resident,
            host_copy=self.host_copy,
            prewarmed=self.prewarmed,
            load_seconds=round(self.load_seconds, 3),
            exit_seconds=self.exit_seconds and round(self.exit_seconds, 3),
            sleep_seconds=self.sleep_seconds and round(self.sleep_seconds, 3),
            wake_seconds=self.wake_seconds and round(self.wake_seconds, 3),
            run_seconds=before.run_seconds if before else None,
            buckets=before.buckets if before else {},
        )


class Measurer:
    """Has one worker at a time. Lives in one event loop, the main thread's."""

    def __init__(self, launches: Mapping[str, Launch], device: Device) -> None:
        """``launches`` by model."""
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._ids = count(1)
        self._inflight = InFlightRequests(post=self._events.put_nowait, watcher=self)
        self._supervisor = Supervisor(
            launches,
            device,
            on_message=self._inflight.on_message,
            on_worker_lost=self._inflight.on_worker_lost,
            post=self._events.put_nowait,
            fail=self._fail,
        )
        self._effects = Effects(self._supervisor, self._inflight, halt=lambda: None)

    def answered(self, model: str, finished: messages.Finished) -> None:
        """An ``inflight.Watcher``: nothing is counted here."""

    async def measure(
        self, policy: ModelPolicy, batches: Sequence[Sequence[ModelRequest]], step: Callable[[str], None]
    ) -> Figures:
        """Bring a model in, run the batches all at once, put it to sleep and wake it if it can, stop it.

        ``step`` hears of each of STEPS as it begins. Raises MeasureFailed.
        """
        model, worker = policy.name, next(self._ids)
        try:
            step("loading")
            ready = await self._done(StartWorker(model, worker, keep_copy=policy.copies))
            assert isinstance(ready, WorkerReady)
            figures = Figures(idle=ready.idle, load=ready.load_peak, load_seconds=ready.seconds)
            figures.host_copy, figures.prewarmed = ready.host_copy or None, ready.prewarmed
            step("running")
            figures.peak = await self._run(policy, worker, batches)
            step("trimming")
            await self._done(TrimWorker(model, worker, WHY))
            if policy.sleeps and (figures.host_copy or not policy.copies):
                step("falling asleep")
                slept = await self._done(SleepWorker(model, worker, StopCause.KEEP_ALIVE, WHY))
                assert isinstance(slept, Slept)
                figures.sleep_resident, figures.sleep_seconds = slept.held, slept.seconds
                step("waking")
                ready = await self._done(WakeWorker(model, worker))
                assert isinstance(ready, WorkerReady)
                figures.idle = max(figures.idle, ready.idle)
                figures.load = max(figures.load, ready.load_peak)
                figures.wake_seconds = ready.seconds
                step("running again")
                await self._run(policy, worker, batches[:1])
            step("stopping")
            figures.exit_seconds = await self._stop(model, worker, kill=False)
        finally:
            if worker in self._supervisor.workers:
                await self._stop(model, worker, kill=True)
            self._inflight.reject_all(Rejection(RejectReason.SHUTTING_DOWN, WHY))
        return figures

    async def _done(self, command: Command) -> Event:
        """Carry a command out; the event it ended in."""
        self._effects.execute(command)
        return await self._next()

    async def _next(self) -> Event:
        event = await self._events.get()
        if isinstance(event, WorkerExited):
            raise MeasureFailed(event.detail)
        return event

    def _fail(self, task: str, error: BaseException) -> None:
        detail = f"the task {task!r} failed ({type(error).__name__}); the log has more"
        self._events.put_nowait(WorkerExited(0, seconds=0.0, detail=detail))

    async def _run(self, policy: ModelPolicy, worker: int, batches: Sequence[Sequence[ModelRequest]]) -> int | None:
        """The largest peak of all; None if there is nothing to run."""
        readers = [
            awaited(_read(answer)) for batch in batches for answer in self._dispatch(policy.name, worker, batch)
        ]
        peaks = []
        try:
            async with asyncio.timeout(policy.max_run):
                peaks = [await self._peak() for _ in readers]
                for reader in readers:
                    await reader
        except TimeoutError:
            raise MeasureFailed(f"its requests took longer than max_run, {policy.max_run:g} s") from None
        except ResponseFailed as failure:
            why = failure.error.message if failure.error is not None else str(failure)
            raise MeasureFailed(f"it did not answer: {why}") from None
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        return max(peaks, default=None)

    def _dispatch(self, model: str, worker: int, batch: Sequence[ModelRequest]) -> list[ResponseStream]:
        answers = [self._inflight.open(call.work(next(self._ids))) for call in batch]
        self._effects.execute(Dispatch(model, worker, tuple(answer.id for answer in answers)))
        return answers

    async def _peak(self) -> int:
        event = await self._next()
        if isinstance(event, RequestFailed):  # its reader is told, with the engine's own words
            self._effects.execute(Reject(event.request, Rejection(RejectReason.ENGINE, "the engine failed")))
            return 0
        assert isinstance(event, RequestFinished)
        return event.peak

    async def _stop(self, model: str, worker: int, *, kill: bool) -> float:
        self._effects.execute(StopWorker(model, worker, StopCause.SHUTDOWN, "it has been measured", kill))
        while not isinstance(event := await self._events.get(), WorkerExited):
            pass  # what it still had to say
        return event.seconds


async def _read(answer: ResponseStream) -> None:
    """To its end, or what a worker may send ahead would be used up. Raises ResponseFailed."""
    while await answer.some():
        pass

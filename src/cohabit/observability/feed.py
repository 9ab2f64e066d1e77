"""What is decided, as it happens: model states, swaps, refusals, alerts. Never a prompt or an answer."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from cohabit.core.commands import (
    Command,
    PrewarmWorker,
    Reject,
    SleepWorker,
    StartWorker,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import (
    DeviceMeasured,
    DeviceUnreadable,
    Event,
    PinRequested,
    Slept,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.ledger import Ledger
from cohabit.core.lifecycle import State
from cohabit.core.snapshot import Alert, alerts
from cohabit.core.state import SchedulerState

BACKLOG = 1000  # messages that may wait for a slow reader before he is cut off


class Subscription:
    """One reader's messages. ``lost`` tells that he was too slow: he should read the whole state anew."""

    def __init__(self) -> None:
        """Nothing waits yet."""
        self.lost = False
        self.closed = False
        self._messages: deque[bytes] = deque()
        self._wake = asyncio.Event()

    async def some(self, within: float) -> list[bytes]:
        """All that waits, after up to so many seconds; nothing if it was quiet."""
        try:
            async with asyncio.timeout(within):
                await self._wake.wait()
        except TimeoutError:
            return []
        self._wake.clear()
        messages = list(self._messages)
        self._messages.clear()
        return messages

    def cancel(self) -> None:
        """No more."""
        self.closed = True
        self._wake.set()

    def put(self, message: bytes) -> None:
        """One more, if he keeps up."""
        if len(self._messages) >= BACKLOG:
            self.lost = True
            self.cancel()
        elif not self.closed:
            self._messages.append(message)
            self._wake.set()


class Feed:
    """Tells all who have subscribed; ``handled`` is an observer of the control loop."""

    def __init__(self, state: SchedulerState | None = None, alerts: Callable[[], Iterable[Alert]] = tuple) -> None:
        """Of the core whose books these are; without any there is nothing to tell. ``alerts`` are the shell's own."""
        self._state = state or SchedulerState((), Ledger(budget=0, keep_free=0, slots=0))
        self._shell_alerts = alerts
        self._subscriptions: set[Subscription] = set()

    def subscribe(self) -> Subscription:
        """Everything from now on, until it is dropped."""
        subscription = Subscription()
        if not self._subscriptions:  # while nobody looked on, nothing was kept
            self._models = {worker: model.name for worker, model in self._state.workers.items()}
            self._swap = self._state.swap
            self._alerts = self._all_alerts(time.monotonic())
        self._subscriptions.add(subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """He reads no more."""
        subscription.cancel()
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """The server leaves."""
        for subscription in self._subscriptions:
            subscription.cancel()

    def handled(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """A ``control_loop.Observe``."""
        if not self._subscriptions:
            return
        messages = [*self._of_event(event, now), *(one for command in commands for one in self._of_command(command))]
        if self._state.swap is not self._swap:
            self._swap = self._state.swap
            messages.append(("swap", self._swapping()))
        for kind, fields in messages:
            message = b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode({"at": time.time(), **fields}))
            for subscription in self._subscriptions:
                subscription.put(message)

    def _of_event(self, event: Event, now: float) -> Iterator[tuple[str, dict[str, Any]]]:
        match event:
            case WorkerReady(worker, seconds=seconds) if worker in self._models:
                yield "model", {"model": self._models[worker], "state": "ready", "seconds": seconds}
            case Slept(worker, seconds=seconds) if worker in self._models:
                yield "model", {"model": self._models[worker], "state": "sleeping", "seconds": seconds}
            case WorkerExited(worker, detail=detail) if worker in self._models:
                name = self._models.pop(worker)
                why = {} if event.seconds else {"why": detail}  # asked to, it was told why before
                failed = self._state.models[name].state is State.FAILED
                yield "model", {"model": name, "state": "failed" if failed else "stopped", **why}
            case PinRequested(model):
                yield "model", {"model": model, "pinned": self._state.models[model].policy.pin}
            case DeviceMeasured() | DeviceUnreadable():
                alerts = self._all_alerts(now)
                if alerts != self._alerts:
                    self._alerts = alerts
                    yield "alerts", {"alerts": alerts}
            case _:
                pass

    def _of_command(self, command: Command) -> Iterator[tuple[str, dict[str, Any]]]:
        match command:
            case PrewarmWorker(model, worker):
                self._models[worker] = model
                yield "model", {"model": model, "state": "prewarmed"}
            case StartWorker(model, worker):
                self._models[worker] = model
                yield "model", {"model": model, "state": "starting"}
            case WakeWorker(model):
                yield "model", {"model": model, "state": "waking"}
            case SleepWorker(model, _, cause, why):
                yield "model", {"model": model, "state": "entering_sleep", "cause": cause, "why": why}
            case StopWorker(model, _, cause, why):
                yield "model", {"model": model, "state": "stopping", "cause": cause, "why": why}
            case TrimWorker(model, _, why):
                yield "trim", {"model": model, "why": why}
            case Reject(request, rejection):
                yield "rejected", {"request": request, "reason": rejection.reason, "why": rejection.detail}
            case _:
                pass

    def _all_alerts(self, now: float) -> list[Alert]:
        return [*alerts(self._state, now), *self._shell_alerts()]

    def _swapping(self) -> dict[str, Any]:
        swap = self._swap
        if swap is None:
            return {"model": None}
        victims = [self._state.workers[worker].name for worker in swap.victims if worker in self._state.workers]
        return {"model": swap.model, "need": swap.need, "victims": victims, "why": swap.why}

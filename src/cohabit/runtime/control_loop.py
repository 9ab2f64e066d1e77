"""The control loop: the only one who calls the core."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from cohabit.core.commands import Command, SetTimer
from cohabit.core.controller import Controller
from cohabit.core.events import Event, TimerFired

log = structlog.get_logger()

Execute = Callable[[Command], None]
Observe = Callable[[Event, Sequence[Command], float], None]


class ControlLoop:
    """Events in, one after the other; the commands of each are carried out before the next is taken.

    A timer only posts an event. If the core contradicts itself, or a command or an observer raises, nobody knows
    any more what is true: ``failed`` then holds the error, and the loop takes nothing more.
    """

    def __init__(self, controller: Controller, execute: Execute, observers: Sequence[Observe] = ()) -> None:
        """``execute`` must not block and must not raise; it may post."""
        self.controller = controller
        self.failed: BaseException | None = None
        self._execute = execute
        self._observers = list(observers)
        self._when_failed: list[Callable[[], None]] = []
        self._stopped = False
        self._events: deque[Event] = deque()
        self._loop = asyncio.get_running_loop()
        self._busy = False
        self._due: float | None = None  # when the core wants its timer
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # never later than that

    def subscribe(self, observe: Observe) -> None:
        """Tell it of every event from now on, with the commands that were carried out for it."""
        self._observers.append(observe)

    def unsubscribe(self, observe: Observe) -> None:
        """Tell it no more."""
        self._observers.remove(observe)

    def when_failed(self, callback: Callable[[], None]) -> None:
        """Call this once if the loop fails. It must not raise."""
        self._when_failed.append(callback)

    def fail(self, during: str, error: BaseException) -> None:
        """Stop for good because of this error, the first that is told."""
        if self.failed is None:
            self.failed = error
            self.stop()
            log.error("the control loop stopped", during=during)
            for callback in self._when_failed:
                callback()

    def stop(self) -> None:
        """Take nothing more: what is posted from now on is dropped."""
        self._stopped = True
        self._events.clear()

    def post(self, event: Event) -> None:
        """Take an event, now; one that is posted while another is taken comes after it."""
        if self._stopped:
            return
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        while self._events:
            event = self._events.popleft()
            try:
                self._take(event, time.monotonic())
            except Exception as error:
                log.exception("the control loop failed", during=type(event).__name__)
                self.fail(type(event).__name__, error)
        self._busy = False

    def _take(self, event: Event, now: float) -> None:
        commands: Sequence[Command] = ()
        try:
            commands = self.controller.handle(event, now)
            for command in commands:
                if isinstance(command, SetTimer):
                    self._set_timer(command.at)
                else:
                    self._execute(command)
        finally:  # also of the event that the core failed on: a journal ends with it
            self._notify(event, commands, now)

    def _notify(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """All observers, also those behind one that raises."""
        failed: Exception | None = None
        for observe in tuple(self._observers):
            try:
                observe(event, commands, now)
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _set_timer(self, at: float | None) -> None:
        self._due = at
        if at is not None and (self._timer is None or at < self._timer_at):
            self._arm(at)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # The event loop's clock is CLOCK_MONOTONIC in asyncio and uvloop alike, but uvloop rounds to ms:
        # a delay computed now, plus one, never fires early and so never finds nothing due.
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()) + 0.001, self._ring)
        self._timer_at = at

    def _ring(self) -> None:
        # The core's next moment moves with most events, mostly to later: the handle stays, and that is seen here.
        self._timer = None
        if self._due is None:
            return
        if self._due > self._timer_at:
            self._arm(self._due)
        else:
            self.post(TimerFired())

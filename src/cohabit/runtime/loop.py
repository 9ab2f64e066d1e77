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

    A timer only posts an event. ``failed`` holds the error of a core that contradicted itself: the loop then
    takes nothing more, and health is red.
    """

    def __init__(self, controller: Controller, execute: Execute, observers: Sequence[Observe] = ()) -> None:
        """``execute`` must not block and must not raise; it may post."""
        self.controller = controller
        self.failed: Exception | None = None
        self._execute = execute
        self._observers = list(observers)
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

    def post(self, event: Event) -> None:
        """Take an event, now; one that is posted while another is taken comes after it."""
        self._events.append(event)
        self._take_waiting()

    def post_soon(self, event: Event) -> None:
        """Take an event once whoever is being woken in this round of the event loop has had his turn.

        Or before the next that is posted: they stay in order.
        """
        if not self._events:
            self._loop.call_soon(self._loop.call_soon, self._take_waiting)
        self._events.append(event)

    def _take_waiting(self) -> None:
        if not self._busy:
            self._busy = True
            self._take_all()
            self._busy = False

    def _take_all(self) -> None:
        while self._events and self.failed is None:
            event = self._events.popleft()
            try:
                self._take(event, time.monotonic())
            except Exception as error:
                self.failed = error
                log.exception("the control loop stopped", during=type(event).__name__)

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
            for observe in tuple(self._observers):
                observe(event, commands, now)

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

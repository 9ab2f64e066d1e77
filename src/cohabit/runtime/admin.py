"""The owner's word to a running server: asked of the core, and waited for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cohabit.core.admin import Objection, objection
from cohabit.core.commands import Command
from cohabit.core.events import AdminRequest, Event, LoadRequested, PinRequested, SleepRequested
from cohabit.core.lifecycle import State
from cohabit.core.model_state import Model
from cohabit.runtime.control_loop import ControlLoop
from cohabit.runtime.requests import SERVER_FAILED, ResponseFailed

_LEAVING = frozenset({State.ENTERING_SLEEP, State.STOPPING})


class Ending(StrEnum):
    """What has come of it."""

    DONE = "done"
    UNDER_WAY = "under_way"
    SUPERSEDED = "superseded"  # by another word, before it was done
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AdminOutcome:
    """``detail`` is for people, where something is in the way."""

    ending: Ending
    detail: str = ""


class AdminRequests:
    """Asks the core and sees what comes of it."""

    def __init__(self, loop: ControlLoop) -> None:
        """Over the loop that owns the core."""
        self._loop = loop
        self._watches: set[_Watch] = set()
        loop.when_failed(self._release)

    async def request(self, request: AdminRequest, within: float) -> AdminOutcome | Objection:
        """Ask, and wait for up to so many seconds until it is done. The model must be there.

        Raises ResponseFailed if the server has failed.
        """
        if self._loop.failed is not None:
            raise ResponseFailed(rejection=SERVER_FAILED)
        state = self._loop.controller.state
        refusal = objection(state, request)
        if refusal is not None:
            return refusal
        watch = _Watch(state.models[request.model], request)
        self._watches.add(watch)
        self._loop.subscribe(watch.handled)
        try:
            self._loop.post(request)
            async with asyncio.timeout(within):
                await watch.ended.wait()
        except TimeoutError:
            return AdminOutcome(Ending.UNDER_WAY)
        finally:
            self._watches.discard(watch)
            self._loop.unsubscribe(watch.handled)
        if self._loop.failed is not None:
            raise ResponseFailed(rejection=SERVER_FAILED)
        return watch.outcome

    def _release(self) -> None:
        """Nothing more comes of what was asked."""
        for watch in self._watches:
            watch.ended.set()


class _Watch:
    """Looks at the model after every event, since it may not stay for long as it was asked to be."""

    def __init__(self, model: Model, asked: AdminRequest) -> None:
        self.ended = asyncio.Event()
        self.outcome = AdminOutcome(Ending.UNDER_WAY)
        self._model = model
        self._asked = asked
        self._worker = model.worker
        self._failures = model.health.failures

    def handled(self, _event: Event, _commands: Sequence[Command], _now: float) -> None:
        """A ``control_loop.Observe``."""
        if not self.ended.is_set():
            self.outcome = self._look()
            if self.outcome.ending is not Ending.UNDER_WAY:
                self.ended.set()

    def _look(self) -> AdminOutcome:
        if isinstance(self._asked, PinRequested):
            return AdminOutcome(Ending.DONE)
        return self._coming_in() if isinstance(self._asked, LoadRequested) else self._leaving()

    def _coming_in(self) -> AdminOutcome:
        model = self._model
        if model.state is State.READY:
            return AdminOutcome(Ending.DONE)
        if model.health.failures > self._failures:
            return AdminOutcome(
                Ending.FAILED, f"{model.name} does not start: {model.health.failure or 'its worker died'}"
            )
        if model.unloaded and not model.load_requested:
            return AdminOutcome(Ending.SUPERSEDED, f"{model.name} was told to unload before it was loaded")
        return AdminOutcome(Ending.UNDER_WAY)

    def _leaving(self) -> AdminOutcome:
        model = self._model
        asleep_is_enough = isinstance(self._asked, SleepRequested)
        if model.worker != self._worker or model.worker is None:
            if asleep_is_enough:
                return AdminOutcome(Ending.SUPERSEDED, f"the worker of {model.name} ended before it was asleep")
            return AdminOutcome(Ending.DONE)
        if model.unload_requested is not None or model.state in _LEAVING:
            return AdminOutcome(Ending.UNDER_WAY)
        if model.state is State.READY:
            return AdminOutcome(Ending.SUPERSEDED, f"{model.name} was told to load before it was unloaded")
        return AdminOutcome(Ending.DONE if asleep_is_enough else Ending.UNDER_WAY)

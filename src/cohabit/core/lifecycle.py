"""All states of a worker and every move between them, in one table.

An illegal move raises InvalidTransition with the history that led there.
"""

from collections import deque
from enum import StrEnum


class State(StrEnum):
    """What a model's worker is doing."""

    STOPPED = "stopped"
    PREWARMED = "prewarmed"  # a process that imports what its engine needs, and waits for room
    STARTING = "starting"
    READY = "ready"
    ENTERING_SLEEP = "entering_sleep"
    SLEEPING = "sleeping"  # a process without its weights
    WAKING = "waking"
    STOPPING = "stopping"
    FAILED = "failed"  # no process; started again only as a probe


COMING = frozenset({State.STARTING, State.WAKING})  # being brought in
STAYS = COMING | {State.READY}  # in, or about to be


class Move(StrEnum):
    """What makes it change."""

    PREWARM = "prewarm"
    START = "start"
    LOADED = "loaded"
    SLEEP = "sleep"
    SLEPT = "slept"
    WAKE = "wake"
    STOP = "stop"
    EXITED = "exited"
    GIVE_UP = "give_up"


TRANSITIONS: dict[tuple[State, Move], State] = {
    (State.STOPPED, Move.PREWARM): State.PREWARMED,
    (State.FAILED, Move.PREWARM): State.PREWARMED,
    (State.PREWARMED, Move.START): State.STARTING,
    (State.STOPPED, Move.START): State.STARTING,
    (State.FAILED, Move.START): State.STARTING,
    (State.STARTING, Move.LOADED): State.READY,
    (State.READY, Move.SLEEP): State.ENTERING_SLEEP,
    (State.ENTERING_SLEEP, Move.SLEPT): State.SLEEPING,
    (State.SLEEPING, Move.WAKE): State.WAKING,
    (State.WAKING, Move.LOADED): State.READY,
    (State.PREWARMED, Move.STOP): State.STOPPING,
    (State.STARTING, Move.STOP): State.STOPPING,
    (State.ENTERING_SLEEP, Move.STOP): State.STOPPING,
    (State.SLEEPING, Move.STOP): State.STOPPING,
    (State.WAKING, Move.STOP): State.STOPPING,
    (State.READY, Move.STOP): State.STOPPING,
    (State.PREWARMED, Move.EXITED): State.STOPPED,
    (State.STARTING, Move.EXITED): State.STOPPED,
    (State.READY, Move.EXITED): State.STOPPED,
    (State.ENTERING_SLEEP, Move.EXITED): State.STOPPED,
    (State.SLEEPING, Move.EXITED): State.STOPPED,
    (State.WAKING, Move.EXITED): State.STOPPED,
    (State.STOPPING, Move.EXITED): State.STOPPED,
    (State.STOPPED, Move.GIVE_UP): State.FAILED,
}


class InvalidTransition(Exception):
    """A move the table does not have: a bug in the core or an event that should have been dropped."""


class Lifecycle:
    """The state of one model's worker, with its recent history."""

    def __init__(self) -> None:
        """Begin without a process."""
        self.state = State.STOPPED
        self.since = 0.0
        self._history: deque[tuple[float, Move, State]] = deque(maxlen=16)

    def move(self, move: Move, now: float) -> None:
        """Go where the table says. Raises InvalidTransition."""
        following = TRANSITIONS.get((self.state, move))
        if following is None:
            before = ", ".join(f"{at:.3f} {by} -> {to}" for at, by, to in self._history)
            raise InvalidTransition(f"{move} while {self.state}; before: {before or 'nothing'}")
        self.state = following
        self.since = now
        self._history.append((now, move, following))

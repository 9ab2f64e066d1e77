"""What stands in a journal: a head from which the controller can be made anew, then a line an event, all of it JSON.

Events and commands are written as ``{"Name": {its fields}}``. Which there are is read off the unions ``Event`` and
``Command``, what their fields are off the dataclasses, so that new ones need no word here. Times in them are finite:
JSON knows no infinity.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, get_args, get_type_hints

import msgspec

from cohabit.core.commands import Command
from cohabit.core.controller import Controller
from cohabit.core.events import Event
from cohabit.core.eviction import Policy
from cohabit.core.footprints import Ewma, Footprint
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import Model, ModelPolicy
from cohabit.core.state import SchedulerState

SCHEMA = 2

T = TypeVar("T")


class Union(Generic[T]):
    """The members of a union of dataclasses, by name."""

    def __init__(self, members: Any) -> None:
        """``members`` is the union itself."""
        self._decoders = {kind.__name__: msgspec.json.Decoder(kind) for kind in get_args(members)}

    def read(self, tagged: dict[str, msgspec.Raw]) -> T:
        """Raises msgspec.ValidationError for what is none of its members."""
        if len(tagged) != 1:
            raise msgspec.ValidationError("one name with its fields is expected")
        [(name, fields)] = tagged.items()
        if name not in self._decoders:
            raise msgspec.ValidationError(f"{name!r} is not known")
        return cast("T", self._decoders[name].decode(fields))


EVENTS: Union[Event] = Union(Event)
COMMANDS: Union[Command] = Union(Command)


def tagged(what: Event | Command) -> dict[str, Event | Command]:
    return {type(what).__name__: what}


class ModelHead(msgspec.Struct, frozen=True, kw_only=True):
    """One model as it was at the start."""

    policy: ModelPolicy
    footprint: dict[str, Any]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. ``began`` and ``clock`` are one moment, in UTC and on the clock of the events."""

    schema: int
    cohabit: str
    began: str
    clock: float
    device: str
    policy: Policy
    ledger: dict[str, Any]
    models: list[ModelHead]

    @classmethod
    def of(
        cls, state: SchedulerState, policy: Policy, *, cohabit: str, began: str, clock: float, device: str
    ) -> "Head":
        """Of a controller that has not been told anything."""
        return cls(
            schema=SCHEMA,
            cohabit=cohabit,
            began=began,
            clock=clock,
            device=device,
            policy=policy,
            ledger=arguments(state.ledger),
            models=[
                ModelHead(policy=model.policy, footprint=arguments(model.footprint))
                for model in state.models.values()
            ],
        )

    def controller(self) -> Controller:
        """The same one again. Raises msgspec.ValidationError, TypeError for what cannot make one."""
        models = [Model(model.policy, made(Footprint, model.footprint)) for model in self.models]
        return Controller(models, made(Ledger, self.ledger), self.policy)


def arguments(thing: object) -> dict[str, Any]:
    """What its constructor would have to be given: each is kept under its name, with or without an underscore."""
    kept = vars(thing)
    values = {name: kept[name if name in kept else f"_{name}"] for name in inspect.signature(type(thing)).parameters}
    return {name: value.value if isinstance(value, Ewma) else value for name, value in values.items()}


def made(kind: type[T], values: dict[str, Any]) -> T:
    """What ``arguments`` was read off. Raises msgspec.ValidationError, TypeError."""
    hints = get_type_hints(kind.__init__)
    return kind(
        **{name: msgspec.convert(value, hints.get(name, Any), str_keys=True) for name, value in values.items()}
    )


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One event, when it was handled, what was decided."""

    now: float
    event: Event
    commands: Sequence[Command]


class _Line(msgspec.Struct):
    now: float
    event: dict[str, msgspec.Raw]
    commands: list[dict[str, msgspec.Raw]]


_encoder = msgspec.json.Encoder()
_heads = msgspec.json.Decoder(Head)
_lines = msgspec.json.Decoder(_Line)


def write_head(head: Head) -> bytes:
    """With its line feed."""
    return _encoder.encode(head) + b"\n"


def write_entry(now: float, event: Event, commands: Sequence[Command]) -> bytes:
    """With its line feed."""
    line = {"now": now, "event": tagged(event), "commands": [tagged(command) for command in commands]}
    return _encoder.encode(line) + b"\n"


def read_head(line: bytes) -> Head:
    """Raises msgspec.DecodeError."""
    return _heads.decode(line)


def read_entry(line: bytes) -> JournalEntry:
    """Raises msgspec.DecodeError."""
    entry = _lines.decode(line)
    return JournalEntry(entry.now, EVENTS.read(entry.event), [COMMANDS.read(command) for command in entry.commands])

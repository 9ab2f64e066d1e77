"""Everything that goes into the core or comes out of it survives being written down, whatever is added to it."""

import dataclasses
import inspect
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from cohabit.core.commands import Command
from cohabit.core.controller import Controller
from cohabit.core.events import Event
from cohabit.core.eviction import Policy
from cohabit.core.footprints import Ewma, Footprint
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import Model, ModelPolicy
from cohabit.observability.journal_format import (
    COMMANDS,
    EVENTS,
    Head,
    read_entry,
    read_head,
    write_entry,
    write_head,
)

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
}


def of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation, those of dataclasses field by field."""
    arguments = get_args(hint)
    match get_origin(hint):
        case _ if isinstance(hint, UnionType):
            return st.one_of([of(member) for member in arguments])
        case collection if collection is frozenset:
            return st.frozensets(of(arguments[0]))
        case collection if collection is tuple:
            return st.lists(of(arguments[0])).map(tuple)
        case collection if collection is dict:
            return st.dictionaries(of(arguments[0]), of(arguments[1]))
        case _ if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            hints = get_type_hints(hint)
            return st.builds(hint, **{field.name: of(hints[field.name]) for field in dataclasses.fields(hint)})
    return SCALARS[hint] if hint in SCALARS else st.from_type(hint)


def called(kind: Any) -> st.SearchStrategy[Any]:
    """Made by a constructor with every argument given."""
    hints = get_type_hints(kind.__init__)
    return st.builds(kind, **{name: of(hints[name]) for name in inspect.signature(kind).parameters})


def kinds(value: Any) -> Any:
    """Its type, and those of all it holds: 1 == 1.0 is not enough."""
    if dataclasses.is_dataclass(value):
        return type(value), [kinds(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        return dict, [(type(key), kinds(held)) for key, held in value.items()]
    if isinstance(value, frozenset | tuple | list):
        return type(value), {repr(held): kinds(held) for held in value}
    return type(value)


@pytest.mark.parametrize("kind", get_args(Event))
@given(data=st.data())
def test_every_event_survives_write_and_read(kind: type[Any], data: st.DataObject) -> None:
    event = data.draw(of(kind))
    now = data.draw(SCALARS[float])
    read = read_entry(write_entry(now, event, []))
    assert (read.now, read.event, read.commands) == (now, event, [])
    assert kinds(read.event) == kinds(event)


@pytest.mark.parametrize("kind", get_args(Command))
@given(data=st.data())
def test_every_command_survives_write_and_read(kind: type[Any], data: st.DataObject) -> None:
    [event] = data.draw(st.lists(of(get_args(Event)[0]), min_size=1, max_size=1))
    commands = data.draw(st.lists(of(kind), min_size=1, max_size=3))
    line = write_entry(0.0, event, commands)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    read = read_entry(line)
    assert read.commands == commands
    assert kinds(read.commands) == kinds(commands)


def deep(value: Any) -> Any:
    """Attributes of an object that cannot be compared."""
    return {name: vars(held) if isinstance(held, Ewma) else held for name, held in vars(value).items()}


@given(
    models=st.dictionaries(
        st.text(min_size=1), st.tuples(of(ModelPolicy), called(Footprint)), min_size=1, max_size=3
    ),
    ledger=called(Ledger),
    policy=st.sampled_from(Policy),
)
def test_head_makes_the_same_controller(
    models: dict[str, tuple[ModelPolicy, Footprint]], ledger: Ledger, policy: Policy
) -> None:
    made = [Model(dataclasses.replace(of_it, name=name), footprint) for name, (of_it, footprint) in models.items()]
    first = Controller(made, ledger, policy)
    head = Head.of(first.state, policy, cohabit="1", began="2026-01-01T00:00:00+00:00", clock=1.5, device="cpu")
    read = read_head(write_head(head))
    again = read.controller()
    assert (read.policy, read.clock, read.began, read.device) == (policy, 1.5, head.began, "cpu")
    assert [(name, model.policy) for name, model in again.state.models.items()] == [
        (name, model.policy) for name, model in first.state.models.items()
    ]
    for name, model in first.state.models.items():
        assert deep(again.state.models[name].footprint) == deep(model.footprint)
    assert deep(again.state.ledger) == deep(first.state.ledger)


@pytest.mark.parametrize(
    "line", ['{"Nonsense":{}}', '{"Started":{},"TimerFired":{}}', "{}", '{"RequestCancelled":{}}']
)
def test_unknown_event_is_refused(line: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        EVENTS.read(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    with pytest.raises(msgspec.ValidationError):
        COMMANDS.read(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))

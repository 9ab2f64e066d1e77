"""Events and commands: what goes in and comes out is written down by others, and must not change afterwards."""

from dataclasses import FrozenInstanceError, fields
from typing import Any, get_args

import pytest

from cohabit.core.commands import Command
from cohabit.core.events import Event


@pytest.mark.parametrize("kind", [*get_args(Event), *get_args(Command)], ids=lambda kind: kind.__name__)
def test_events_and_commands_cannot_be_changed(kind: Any) -> None:
    message = kind(**{field.name: None for field in fields(kind)})
    assert not hasattr(message, "__dict__")
    for field in fields(kind):
        with pytest.raises(FrozenInstanceError):
            setattr(message, field.name, 1)

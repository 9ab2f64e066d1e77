"""One request after the other: a bad one fails alone, and what must be done after each is."""

from collections.abc import Iterator

import pytest

from cohabit.engines.per_item import BadItem, singly
from cohabit.protocol.engine import Chunk, EngineRequest, ItemError, Output
from cohabit.protocol.tasks import Task

BATCH = [EngineRequest(number, Task.CHAT, b"{}") for number in range(3)]


def test_bad_item_fails_alone() -> None:
    after: list[str] = []

    def answer(request: EngineRequest) -> Iterator[Output]:
        yield Chunk(request.id, b"a")
        if request.id == 1:
            raise BadItem("no", param="input", code="odd")

    found = list(singly(BATCH, answer, after=lambda: after.append("done")))
    assert found == [
        Chunk(0, b"a"),
        Chunk(1, b"a"),
        ItemError(1, "no", param="input", code="odd"),
        Chunk(2, b"a"),
    ]
    assert len(after) == 3


def test_unexpected_error_ends_only_its_batch() -> None:
    after: list[str] = []

    def answer(request: EngineRequest) -> Iterator[Output]:
        if request.id == 0:
            raise MemoryError
        yield Chunk(request.id, b"")

    with pytest.raises(MemoryError):
        list(singly(BATCH, answer, after=lambda: after.append("done")))
    assert len(after) == 1

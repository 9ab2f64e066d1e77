"""What time will do, in order: every model's next moment, so that nobody is looked at before something is due."""

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cohabit.core.state import Model


_FEW = 64  # entries that are kept without asking whether they still hold


class Deadlines:
    """One moment a model. A moment that was moved leaves its old entry behind, to be dropped when it comes up or
    when there are too many."""

    def __init__(self) -> None:
        """Begin empty."""
        self._heap: list[tuple[float, int, Model]] = []
        self._order = count()
        self._most = _FEW

    def set(self, model: "Model", at: float | None) -> None:
        """Its next moment; None: it has none."""
        if at == model.due:
            return
        model.due = at
        if at is not None:
            heapq.heappush(self._heap, (at, next(self._order), model))
            if len(self._heap) > self._most:
                self._heap = [entry for entry in self._heap if entry[0] == entry[2].due]
                heapq.heapify(self._heap)
                self._most = max(_FEW, 2 * len(self._heap))

    @property
    def next(self) -> float | None:
        """When the next model is due."""
        while self._heap and self._heap[0][0] != self._heap[0][2].due:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> "list[Model]":
        """Take out those whose moment has come, in order."""
        found = []
        while (at := self.next) is not None and at <= now:
            model = heapq.heappop(self._heap)[2]
            model.due = None
            found.append(model)
        return found

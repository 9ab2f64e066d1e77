"""What time will do, in order: the next moment of every model, so that no model is looked at before something is due.

A heap that is pruned late, as trio's ``Deadlines``: a moment that was moved leaves its old entry behind.
"""

import heapq

_FEW = 64  # entries that are kept without asking whether they still hold


class Deadlines:
    """One moment by name."""

    def __init__(self) -> None:
        self._moments: dict[str, float] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._pushed = 0
        self._prune_above = _FEW

    def set(self, name: str, at: float | None) -> None:
        """Its next moment; None: it has none."""
        if at == self._moments.get(name):
            return
        if at is None:
            del self._moments[name]
            return
        self._moments[name] = at
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, name))
        if len(self._heap) > self._prune_above:
            self._heap = [entry for entry in self._heap if self._holds(entry)]
            heapq.heapify(self._heap)
            self._prune_above = max(_FEW, 2 * len(self._heap))

    @property
    def next(self) -> float | None:
        """The nearest moment."""
        while self._heap and not self._holds(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[str]:
        """Take out those whose moment has come, in order."""
        names = []
        while (at := self.next) is not None and at <= now:
            name = heapq.heappop(self._heap)[2]
            del self._moments[name]
            names.append(name)
        return names

    def _holds(self, entry: tuple[float, int, str]) -> bool:
        return self._moments.get(entry[2]) == entry[0]

"""Models that lack room, the most urgent first: time waited as a share of the time allowed.

That order changes with time, but not among models that are allowed the same time. So there is a heap for each
``max_wait``, and only their heads are compared. Background work is allowed any time, and comes after all others.
"""

import heapq
import math
from collections.abc import Iterator
from itertools import count

_Entry = tuple[float, int, str]
_LAST = -1.0  # less urgent than what has just arrived


class Waiters:
    """A set of names, read in order of urgency. What is only preloaded, with nobody waiting, comes last."""

    def __init__(self) -> None:
        self._members: dict[str, tuple[float, float, int]] = {}  # time allowed, since when, number of its entry
        self._heaps: dict[float, list[_Entry]] = {}
        self._order = count()

    def __iter__(self) -> Iterator[str]:
        """In no particular order, each once."""
        return (
            entry[2]
            for allowed, heap in self._heaps.items()
            for entry in heap
            if self._members.get(entry[2]) == (allowed, *entry[:2])
        )

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def add(self, name: str, *, since: float, allowed: float) -> None:
        """It lacks room, or has begun to wait at another time since it was added. ``allowed`` in seconds."""
        member = self._members.get(name)
        if member is not None and member[:2] == (allowed, since):
            return
        number = next(self._order)
        self._members[name] = (allowed, since, number)
        heapq.heappush(self._heaps.setdefault(allowed, []), (since, number, name))

    def discard(self, name: str) -> None:
        """It does not lack room."""
        self._members.pop(name, None)

    def by_urgency(self, now: float) -> Iterator[str]:
        """All of them, in order; take as many as are wanted. Nothing may be added or discarded meanwhile."""
        taken: list[tuple[list[_Entry], _Entry]] = []
        try:
            while (heap := self._most_urgent(now)) is not None:
                entry = heapq.heappop(heap)
                taken.append((heap, entry))
                yield entry[2]
        finally:
            for heap, entry in taken:
                heapq.heappush(heap, entry)

    def _most_urgent(self, now: float) -> list[_Entry] | None:
        best, most = None, float("-inf")
        for allowed, heap in self._heaps.items():
            while heap and self._members.get(heap[0][2]) != (allowed, heap[0][0], heap[0][1]):
                heapq.heappop(heap)
            if heap:
                urgency = (now - heap[0][0]) / max(allowed, 1e-9) if allowed < math.inf else _LAST
                if best is None or urgency > most:
                    best, most = heap, urgency
        return best

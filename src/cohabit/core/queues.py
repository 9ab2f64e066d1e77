"""A model's waiting requests. Its clients take turns, so that one client's hundred do not bury another's one."""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Request:
    """One accepted request until it ends."""

    id: int
    model: str
    client: str
    arrived: float
    deadline: float | None = None
    batch: int | None = None  # came together with others, perhaps of other models
    units: int = 0  # its size in what the engine measures work in; 0: does not matter
    background: bool = False  # nobody waits for it at this moment
    size: int = 0  # bytes that are sent to its worker
    queued: bool = False
    dispatched: float | None = None
    retried: bool = False  # was on a worker that died or ran out of memory; runs alone, and only once more
    cancelled: float | None = None  # when the worker was told to stop it
    ended: bool = False  # its client has its answer, its error, or is gone; the worker may still hold it


class FairQueue:
    """Requests in turns by client, in order within a client.

    A request that leaves from the middle stays where it is, marked, until it comes to the head: all but iterating
    is O(log n).
    """

    def __init__(self) -> None:
        self._clients: dict[str, deque[Request]] = {}
        self.count = 0  # how many wait
        self._arrivals: list[tuple[float, int, Request]] = []

    def __iter__(self) -> Iterator[Request]:
        """In the order in which they would be taken; the first few cost little, however many there are."""
        lines = deque((request for request in line if request.queued) for line in self._clients.values())
        while lines:
            line = lines.popleft()
            request = next(line, None)
            if request is not None:
                yield request
                lines.append(line)

    def push(self, request: Request) -> None:
        """To the end of its client's line."""
        self._enter(request)
        line = self._clients.get(request.client)
        if line is None:
            line = self._clients[request.client] = deque()
        line.append(request)

    def push_front(self, request: Request) -> None:
        """Back to the head of everything: it has waited before. A client's own order is kept."""
        line = self._clients.pop(request.client, None) or deque()
        first = [request]
        # A client's line is in order, so what it left there when it was taken is found on the way.
        while line and (line[0].arrived, line[0].id) <= (request.arrived, request.id):
            earlier = line.popleft()
            if earlier.queued:
                first.insert(-1, earlier)
        self._enter(request)
        line.extendleft(reversed(first))
        self._clients = {request.client: line, **self._clients}

    def peek(self) -> Request:
        """The next to be taken. Raises StopIteration if nothing waits."""
        while True:
            client, line = next(iter(self._clients.items()))
            while line and not line[0].queued:
                line.popleft()
            if line:
                return line[0]
            del self._clients[client]

    def take(self, request: Request) -> None:
        """Take this one; its client goes to the end of the turns."""
        self.remove(request)
        line = self._clients.pop(request.client, None)  # None: it was the last of all
        if line:
            self._clients[request.client] = line

    def remove(self, request: Request) -> None:
        """Take this one out, wherever it stands."""
        request.queued = False
        self.count -= 1
        if not self.count:
            self._clients.clear()
            self._arrivals.clear()

    @property
    def oldest(self) -> float:
        """When the one that has waited longest arrived. Raises IndexError if nothing waits."""
        arrivals = self._arrivals
        while not arrivals[0][2].queued:
            heapq.heappop(arrivals)
        return arrivals[0][0]

    def _enter(self, request: Request) -> None:
        request.queued = True
        self.count += 1
        heapq.heappush(self._arrivals, (request.arrived, request.id, request))


class ModelQueue:
    """Waiting requests of one model: the interactive ones first, background work once none of them is left.

    While it is ``urgent`` it is the other way round: background work has waited for so long that it counts as
    interactive.
    """

    def __init__(self) -> None:
        self.interactive = FairQueue()
        self.background = FairQueue()
        self.urgent = False
        self.batches: dict[int | None, int] = {}  # how many wait of each batch
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    def __iter__(self) -> Iterator[Request]:
        """In the order in which they would be taken."""
        yield from self.next
        yield from self.background if self.next is self.interactive else self.interactive

    @property
    def next(self) -> FairQueue:
        """Those of whom one is the next to be taken."""
        return self.interactive if self.interactive.count and not self.urgent else self.background

    @property
    def best_effort(self) -> bool:
        """Whether what is next is background work that gives way to everything else."""
        return not self.urgent and not self.interactive.count

    @property
    def oldest(self) -> float:
        """When the one of those that has waited longest arrived. Raises IndexError if nothing waits."""
        return self.next.oldest

    def push(self, request: Request) -> None:
        """To the end of its client's line."""
        self._enter(request)
        self._of(request).push(request)

    def push_front(self, request: Request) -> None:
        """Back to the head of those of its class: it has waited before."""
        self._enter(request)
        self._of(request).push_front(request)

    def peek(self) -> Request:
        """The next to be taken. Raises StopIteration if nothing waits."""
        return self.next.peek()

    def take(self, request: Request) -> None:
        """Take this one; its client goes to the end of the turns."""
        self._of(request).take(request)
        self._leave(request)

    def remove(self, request: Request) -> None:
        """Take this one out, wherever it stands."""
        self._of(request).remove(request)
        self._leave(request)

    def _of(self, request: Request) -> FairQueue:
        return self.background if request.background else self.interactive

    def _enter(self, request: Request) -> None:
        self._count += 1
        self.batches[request.batch] = self.batches.get(request.batch, 0) + 1

    def _leave(self, request: Request) -> None:
        self._count -= 1
        left = self.batches[request.batch] - 1
        if left:
            self.batches[request.batch] = left
        else:
            del self.batches[request.batch]
        if not self.background.count:
            self.urgent = False

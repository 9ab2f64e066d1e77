"""A model's waiting requests. Its clients take turns, so that one client's hundred do not bury another's one."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class Request:
    """One accepted request until it ends."""

    id: int
    model: str
    client: str
    arrived: float
    deadline: float | None = None
    batch: int | None = None  # came together with others, perhaps of other models
    dispatched: float | None = None
    retried: bool = False  # was on a worker that died or ran out of memory; runs alone, and only once more
    cancelled: float | None = None  # when the worker was told to stop it
    ended: bool = False  # its client has its answer, its error, or is gone; the worker may still hold it


class ModelQueue:
    """Waiting requests of one model, in turns by client, in order within a client."""

    def __init__(self) -> None:
        """Begin empty."""
        self._clients: dict[str, list[Request]] = {}

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(line) for line in self._clients.values())

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._clients)

    def __iter__(self) -> Iterator[Request]:
        """In the order in which they would be taken."""
        depth = 0
        while True:
            row = [line[depth] for line in self._clients.values() if len(line) > depth]
            if not row:
                return
            yield from row
            depth += 1

    def push(self, request: Request) -> None:
        """To the end of its client's line."""
        self._clients.setdefault(request.client, []).append(request)

    def push_front(self, request: Request) -> None:
        """Back to the head of everything: it has waited before. A client's own order is kept."""
        line = sorted([request, *self._clients.pop(request.client, [])], key=lambda r: (r.arrived, r.id))
        self._clients = {request.client: line, **self._clients}

    def peek(self) -> Request:
        """The next to be taken. Raises StopIteration if nothing waits."""
        return next(iter(self._clients.values()))[0]

    def pop(self) -> Request:
        """Take one; its client goes to the end of the turns."""
        client = next(iter(self._clients))
        line = self._clients.pop(client)
        request = line.pop(0)
        if line:
            self._clients[client] = line
        return request

    def remove(self, request: Request) -> None:
        """Take this one out, wherever it stands."""
        line = self._clients[request.client]
        line.remove(request)
        if not line:
            del self._clients[request.client]

    @property
    def oldest(self) -> float:
        """When the one that has waited longest arrived. Raises ValueError if nothing waits."""
        return min(line[0].arrived for line in self._clients.values())

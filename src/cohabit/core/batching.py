"""Which waiting requests run together: the next in turn, and of those behind it the nearest to it in length.

A batch is padded to its longest item, so one of unequal lengths wastes time and memory. Sorting only what would be
taken soon keeps the turns of clients; the next in turn is always in.
"""

from collections.abc import Callable
from itertools import islice

from cohabit.core.queues import ModelQueue, Request

WINDOW = 4  # batches' worth of waiting requests that are looked at
MAX_BATCH_BYTES = 32 << 20  # of a batch, so that no request fails for the size of its neighbours; one may be larger


def units_of(batch: list[Request]) -> int:
    """What the engine measures, of the whole batch: padded to the longest. 0 if any is of unknown size."""
    if any(request.units <= 0 for request in batch):
        return 0
    return len(batch) * max(request.units for request in batch)


def form_batch(queue: ModelQueue, most: int, fits: Callable[[int], bool]) -> list[Request]:
    """Take a batch out of the queue. ``fits`` tells whether one of so many units may run; of one it is known."""
    line = queue.next
    first = line.peek()
    batch = [first]
    if most > 1 and line.count > 1 and not first.retried:  # a suspect runs alone
        window = [request for request in islice(line, most * WINDOW) if not request.retried]
        batch = _light(_nearest(window, first, most), first)
        while len(batch) > 1 and not fits(units_of(batch)):
            batch.remove(next(request for request in reversed(batch) if request is not first))
    for request in batch:
        queue.take(request)
    return batch


def _light(batch: list[Request], first: Request) -> list[Request]:
    """Without the largest ones, where all together are too many bytes for one message to the worker."""
    while len(batch) > 1 and sum(request.size for request in batch) > MAX_BATCH_BYTES:
        batch.remove(max((request for request in batch if request is not first), key=lambda request: request.size))
    return batch


def _nearest(window: list[Request], first: Request, most: int) -> list[Request]:
    """So many neighbours in length that ``first`` is among them and the spread is least."""
    ordered = sorted(window, key=lambda request: request.units)  # stable: equals stay in turn
    place = ordered.index(first)
    most = min(most, len(ordered))
    starts = range(max(0, place - most + 1), min(place, len(ordered) - most) + 1)
    start = min(starts, key=lambda at: (ordered[at + most - 1].units - ordered[at].units, abs(at - place)))
    return ordered[start : start + most]

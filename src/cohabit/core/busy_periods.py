"""What runs teach of memory, and what they do not.

A worker tells the peak of its whole process since it was last idle. So what can be measured is a *stretch*: all that
ran from one idle moment to the next. Its peak is what the model took for these requests together, whoever of them
caused it. It is learned when the stretch has ended, and only if every request of it was answered or cancelled: where
one failed, the peak may be its doing, and the others are bystanders.

A stretch that took more than was booked broke the books. It is counted and told, and it never teaches more than the
model may be given.
"""

from dataclasses import dataclass

from cohabit.core.fit import max_bytes_for
from cohabit.core.state import Model, SchedulerState

NOISE = 32 << 20  # bytes beyond what is booked that are no overrun: shared pages come and go


@dataclass(slots=True)
class BusyPeriod:
    """What runs on a worker between two idle moments. Bytes."""

    given: int  # booked for the worker when it began
    units: int  # of the one run it is; 0 where runs overlap
    failed: bool = False  # a request of it was not answered
    overran: bool = False  # it has been counted


def peaked(model: Model, peak: int, now: float, *, failed: bool = False) -> None:
    """A request has ended or failed. The process has held up to ``peak`` bytes since the stretch began."""
    busy_period = model.busy_period
    assert busy_period is not None, "something runs"
    busy_period.failed |= failed
    if not busy_period.overran and peak > busy_period.given + NOISE:
        busy_period.overran = True
        overran(model, peak, busy_period.given, now)


def overran(model: Model, held: int, given: int, now: float) -> None:
    """Count that a worker held more than it was given, in bytes."""
    model.overruns += 1
    model.overran_at = now
    model.overran = held, given


def learn(state: SchedulerState, model: Model, peak: int) -> None:
    """The last run of a stretch has ended well, and with it the stretch."""
    busy_period = model.busy_period
    assert busy_period is not None, "something has run"
    if busy_period.failed:
        model.footprint.fade()
        return
    model.footprint.learn_run(peak - state.account(model).idle, busy_period.units)
    model.footprint.cap(max_bytes_for(state, model))

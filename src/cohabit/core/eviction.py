"""Whom to evict first: GDSF, or LRU for comparison.

GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy", HP Labs 1998): H = L + F * C / S, evict the least H, then L := H of the victim. F counts uses since the
load, C is the measured seconds to bring the model back, S the bytes that its leaving frees.
"""

from enum import StrEnum

from cohabit.core.state import Books, Model


class Policy(StrEnum):
    """How victims are ordered."""

    GDSF = "gdsf"
    LRU = "lru"


def score(books: Books, model: Model, policy: Policy) -> float:
    """The lower, the sooner it goes. Only models with a process have a score."""
    if policy is Policy.LRU:
        return model.last_used
    assert model.worker is not None
    freed = books.ledger.accounts[model.worker].held
    return books.inflation + model.dispatches * model.footprint.load_seconds.value / max(freed, 1) * 2**30


def account_for(books: Books, model: Model, policy: Policy) -> str:
    """Note that this model is evicted; returns the why for log and page."""
    value = score(books, model, policy)
    if policy is Policy.GDSF:
        books.inflation = max(books.inflation, value)
        return (
            f"gdsf score {value:.2f}: used {model.dispatches} times since it came in, "
            f"{model.footprint.load_seconds.value:.1f} s to bring back"
        )
    return f"lru: last used at {value:.1f}"

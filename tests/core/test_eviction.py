"""Which model is evicted first, and what the log says of it."""

from cohabit.core.commands import StopCause, StopWorker
from cohabit.core.eviction import Policy
from core.driver import Core, brief, model


def test_gdsf_evicts_the_least_useful() -> None:
    core = Core(*(model(name, load_seconds=1) for name in "abc"), budget=230)
    core.bring("a", at=0)
    core.bring("b", at=1)
    for at in (2, 3, 4):
        core.done("a", core.ask("a", at=at))
    core.measured()
    core.ask("c", at=100)
    assert brief(core.did) == ["stop b#2: evicted"], "b was used later, but once"


def test_gdsf_spares_models_that_are_slow_to_load_or_small() -> None:
    core = Core(
        model("cheap", idle=100, load_seconds=1),
        model("dear", idle=100, load_seconds=9),
        model("small", idle=50, load_seconds=1),
        model("new", load_seconds=1),
        budget=270,
    )
    for at, name in enumerate(("cheap", "dear", "small")):
        core.bring(name, at=at)
    core.ask("new", at=100)
    assert brief(core.did) == ["stop cheap#1: evicted"]


def test_gdsf_ages_models_that_stay() -> None:
    """L rises to the score of each victim, so what came in later starts above what was once much used."""
    core = Core(*(model(name, idle=1024, load_seconds=1) for name in "abc"), budget=2100)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("c", at=100)
    assert core.state.inflation == 1.0, "used once, 1 s to bring back, 1 GiB"
    (command,) = core.did
    assert command == StopWorker(
        "a",
        1,
        StopCause.EVICTED,
        "for c, waiting 0.0 s: the others are idle, and were for longer than bringing them back costs; "
        "gdsf score 1.00: used 1 times since it came in, 1.0 s to bring back",
    )
    assert core["a"].usage.last_eviction == command.why


def test_gdsf_counts_uses_since_the_last_load() -> None:
    core = Core(model("a", load_seconds=1), model("b", load_seconds=1), budget=150)
    core.bring("a", at=0)
    assert core["a"].usage.dispatches == 1
    core.ask("b", at=10)
    core.gone("a", at=11)
    core.ready("b", at=12)
    core.done("b", 2)
    core.measured(at=13)
    core.ask("a", at=30)
    assert brief(core.gone("b", at=31)) == ["start a#3"]
    assert core["a"].usage.dispatches == 0


def test_lru_evicts_the_model_used_longest_ago() -> None:
    core = Core(*(model(name) for name in "abc"), budget=230, policy=Policy.LRU)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.done("a", core.ask("a", at=2), at=3)
    core.measured(at=4)
    core.ask("c", at=100)
    assert brief(core.did) == ["stop b#2: evicted"]
    assert core["b"].usage.last_eviction.endswith("lru: last used at 1.0")
    assert core.state.inflation == 0.0

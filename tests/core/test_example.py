"""The examples of docs/scheduling.md and docs/memory.md."""

from core.driver import MIB, Core, brief, model


def test_documented_example_is_what_the_core_decides() -> None:
    core = Core(*(model(name, load_seconds=2.0, exit_seconds=0.5) for name in "AB"), budget=150)
    core.ask("A", at=0)
    assert brief(core.did) == ["start A#1"]
    core.ask("A", at=0)
    assert brief(core.ready("A", at=2)) == ["run A#1: 1"]
    core.ask("A", at=4)
    assert brief(core.done("A", 1, at=5, seconds=3)) == ["run A#1: 2"]
    core.ask("B", at=6)
    assert core.did == []
    assert core.timer == 12.0, "A came in at 2 and serves 4 times the 2.5 s of the switch"
    assert brief(core.done("A", 2, at=8, seconds=3)) == ["run A#1: 3"]
    core.ask("A", at=9)
    assert brief(core.done("A", 3, at=11, seconds=3)) == ["run A#1: 5"]
    assert core.ring() == []
    assert core.draining == ["A"]
    core.ask("A", at=13)
    assert core.did == []
    assert brief(core.done("A", 5, at=14, seconds=3)) == ["stop A#1: evicted"]
    assert brief(core.gone("A", at=14.5, seconds=0.5)) == ["start B#2"]
    assert brief(core.ready("B", at=16.5)) == ["run B#2: 4"]
    assert core.done("B", 4, at=17.5, seconds=1) == []
    core.measured(at=17.6)
    assert core.timer == 19.5, "B is idle since 17.5, and a load of B takes 2 s"
    assert brief(core.ring()) == ["stop B#2: evicted"]
    assert brief(core.gone("B", at=20, seconds=0.5)) == ["start A#3"]
    assert brief(core.ready("A", at=22)) == ["run A#3: 6"]


def test_documented_sum_of_memory_is_what_the_core_reserves() -> None:
    core = _llm_runs(budget=700)
    core.ask("embeddings", at=3)
    assert brief(core.did) == ["start embeddings#2"], "410 + 285 = 695"
    assert core.state.ledger.reserved == 695 * MIB
    assert brief(core.ready("embeddings", at=5)) == ["run embeddings#2: 2"]
    assert core.state.ledger.reserved == (410 + 250) * MIB


def test_documented_load_waits_for_the_memory_of_a_run() -> None:
    core = _llm_runs(budget=690)
    core.ask("embeddings", at=3)
    assert core.did == []
    core.done("llm", 1, at=4)
    assert brief(core.measured(at=4.1)) == ["start embeddings#2"], "370 + 285 = 655"


def test_documented_models_of_which_one_could_not_run_do_not_stay_together() -> None:
    core = _llm_runs(budget=600)
    core.done("llm", 1, at=3)
    core.measured(at=3.1)
    core.ask("embeddings", at=10)
    assert brief(core.did) == ["stop llm#1: evicted"], "370 + 250 = 620, though 370 + 170 = 540 would fit"


def _llm_runs(budget: int) -> Core:
    llm = model("llm", idle=370, activation=40, load=370)
    core = Core(llm, model("embeddings", idle=170, activation=80, load=285), budget=budget)
    core.ask("llm", at=0)
    core.ready("llm", at=1)
    return core

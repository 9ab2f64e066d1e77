"""From a config to a fleet: the ordinary config's figures, and what only a simulation asks for."""

from pathlib import Path

import pytest

from cohabit.config import ConfigError
from cohabit.core.eviction import Policy
from cohabit.engines.fake import PROCESS_BYTES
from cohabit.simulate.behaviour import EXIT_SECONDS, Behaviour
from cohabit.simulate.fleet import Fleet, load_fleet, run_trace
from cohabit.simulate.traces import Arrival

MIB = 1 << 20
CONFIG = """
device: {kind: cpu, budget: 500MiB, compute_slots: 2}
scheduling: {policy: lru, max_wait: 10s}
models:
  a:
    engine: fake
    aliases: [gpt-4o]
    options: {load_seconds: 3, wake_seconds: 0.4, sleep_seconds: 0.1, sleep_resident: 7, idle: 100000000}
  b: {engine: fake, load_seconds: 2, footprint: {idle: 200MiB, inference: 230MiB, load: 220MiB}, pin: true}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A config of two models."""
    path = tmp_path / "sim.yaml"
    path.write_text(CONFIG)
    return path


def test_fleet_takes_figures_of_the_config(file: Path) -> None:
    fleet = load_fleet(file)
    resident = 100_000_000 + PROCESS_BYTES
    assert fleet.behaviours["a"] == Behaviour(
        idle=resident,
        load=resident,
        activation=4 * MIB,
        load_seconds=3,
        wake_seconds=0.4,
        sleep_seconds=0.1,
        sleep_resident=7,
        exit_seconds=EXIT_SECONDS,
    )
    assert fleet.behaviours["b"] == Behaviour(
        idle=200 * MIB, load=220 * MIB, activation=30 * MIB, load_seconds=2, exit_seconds=EXIT_SECONDS
    )
    assert fleet.aliases == {"a": "a", "gpt-4o": "a", "b": "b"}
    assert [policy.sleeps for policy in fleet.policies.values()] == [True, False]
    assert [policy.pin for policy in fleet.policies.values()] == [False, True]
    assert {policy.max_wait for policy in fleet.policies.values()} == {10.0}
    assert (fleet.policy, fleet.slots, fleet.plan.budget) == (Policy.LRU, 2, 500 * MIB)


def test_simulated_core_knows_all_footprints_and_has_the_whole_budget(file: Path) -> None:
    state = load_fleet(file).controller().state
    model = state.models["a"]
    assert model.footprint.load_seconds.value == 3
    assert model.footprint.wake_seconds.value == 0.4
    assert model.footprint.sleep_resident is not None
    assert state.models["b"].footprint.sleep_resident is None
    state.ledger.observe(0.0, load_fleet(file).total, load_fleet(file).total, {})
    assert state.ledger.effective_budget == 500 * MIB


def test_budget_and_policy_can_be_replaced(file: Path) -> None:
    fleet = load_fleet(file, "1GiB")
    assert fleet.plan.budget == 1024 * MIB


@pytest.mark.parametrize("device", ["{}", "{budget: 80%}"])
def test_a_budget_is_a_size(file: Path, device: str) -> None:
    file.write_text(CONFIG.replace("{kind: cpu, budget: 500MiB, compute_slots: 2}", device))
    with pytest.raises(ConfigError, match=r"sim\.yaml: device\.budget: a simulation asks no device; give a size"):
        load_fleet(file)


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        (
            "{engine: fake, load_seconds: 2,",
            "{engine: scene,",
            "models.b.engine: scene cannot be simulated; use fake",
        ),
        ("load_seconds: 2,", "load_seconds: soon,", "models.b.options.load_seconds: expected `float`, got `str`"),
        ("load_seconds: 2,", "load_second: 2,", "models.b.load_second: unknown key"),
        ("load_seconds: 2,", "load_seconds: [", "line "),
        ("models:", "modles:", "modles: unknown key"),
        (CONFIG, "[]", "a mapping with the section `models` is needed"),
        (CONFIG, "models: {a: 3}", "models.a: "),
        (CONFIG, "models: {a: {engine: fake, options: 3, load_seconds: 1}}", "models.a.load_seconds: unknown key"),
    ],
)
def test_what_is_wrong_with_a_config_is_one_line(file: Path, was: str, now: str, told: str) -> None:
    file.write_text(CONFIG.replace(was, now))
    with pytest.raises(ConfigError) as caught:
        load_fleet(file)
    assert str(caught.value).startswith(f"{file}: {told}")
    assert "\n" not in str(caught.value)


def test_missing_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: .*No such file"):
        load_fleet(tmp_path / "none.yaml")


def replayed(fleet: Fleet, policy: Policy) -> dict[str, int]:
    """The loads of each model: a small one used often, a large one now and then, and another to make room for."""
    trace = [
        *(Arrival(100.0 * number, "often", 0.1) for number in range(8)),
        Arrival(790.0, "large", 0.1),
        Arrival(850.0, "other", 0.1),
        Arrival(900.0, "often", 0.1),
    ]
    return {name: tally.loads for name, tally in run_trace(fleet, trace, policy).models.items()}


def test_policy_decides_which_model_is_evicted(file: Path) -> None:
    file.write_text("""
device: {budget: 320MiB, keep_free: 0, compute_slots: 2}
models:
  often: {engine: fake, load_seconds: 3, footprint: {idle: 100MiB, inference: 101MiB, load: 100MiB}}
  large: {engine: fake, load_seconds: 3, footprint: {idle: 200MiB, inference: 201MiB, load: 200MiB}}
  other: {engine: fake, load_seconds: 3, footprint: {idle: 90MiB, inference: 91MiB, load: 90MiB}}
""")
    assert replayed(load_fleet(file), Policy.GDSF) == {"often": 1, "large": 1, "other": 1}
    assert replayed(load_fleet(file), Policy.LRU) == {"often": 2, "large": 1, "other": 1}


@pytest.mark.parametrize(
    ("host_cache", "wakes"),
    [("400MiB", {"a": 3, "b": 3, "c": 0}), ("150MiB", {"a": 3, "b": 0, "c": 0}), ("0", {"a": 0, "b": 0, "c": 0})],
)
def test_model_with_a_host_copy_is_woken_on_a_gpu(file: Path, host_cache: str, wakes: dict[str, int]) -> None:
    one = "{engine: fake, load_seconds: 3, %s footprint: {idle: 640MiB, inference: 641MiB, load: 640MiB}}"
    file.write_text(f"""
device: {{kind: "cuda:0", budget: 800MiB, keep_free: 0, host_cache: {host_cache}}}
models:
  a: {one % "wake_seconds: 0.1,"}
  b: {one % "wake_seconds: 0.1,"}
  c: {one % ""}
""")
    fleet = load_fleet(file)
    assert fleet.behaviours["a"].host_copy == 128 * MIB, "all but the context"
    assert [policy.copies for policy in fleet.policies.values()] == [True, True, False]
    trace = [Arrival(100.0 * number, "abc"[number % 3], 0.1) for number in range(12)]
    assert {name: tally.wakes for name, tally in run_trace(fleet, trace).models.items()} == wakes

"""From a config to a simulation: the core's models, what each really takes, the budget, and a trace through them.

Every model has the engine ``fake``: its option ``load_seconds`` says how long it takes to load, ``wake_seconds``
(which also says that it can sleep), ``sleep_seconds`` and ``sleep_resident`` how it sleeps. The first two may also
stand directly under the model. Bytes are those of ``cohabit plan``: ``footprint``, else of the options.
No device is asked, so the budget is a size. On ``cuda:0`` models sleep by copies in host memory, as far as
``device.host_cache``, a size too, has room for them; without it none is kept.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cohabit.config import ConfigError, defaults
from cohabit.config.load import parse_config, with_budget
from cohabit.config.model import Config
from cohabit.core.controller import Controller
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import ModelPolicy
from cohabit.engines.fake import FakeOptions
from cohabit.runtime.control_loop import Observe
from cohabit.runtime.plan import Plan, make_plan
from cohabit.runtime.profile_store import ProfileStore
from cohabit.simulate.behaviour import Behaviour, known_model
from cohabit.simulate.shell import VirtualShell
from cohabit.simulate.stats import Tally
from cohabit.simulate.traces import Arrival

SHORT_CUTS = ("load_seconds", "wake_seconds")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Models that share a simulated device with ``total`` bytes."""

    policies: dict[str, ModelPolicy]
    behaviours: dict[str, Behaviour]
    aliases: dict[str, str]  # every name that a client may use, and whose it is
    policy: Policy
    plan: Plan
    slots: int

    @property
    def total(self) -> int:
        """What the device has."""
        return self.plan.total

    def controller(self, policy: Policy | None = None) -> Controller:
        """A production core that has seen nothing yet; ``policy`` instead of the config's."""
        models = [known_model(self.policies[name], takes) for name, takes in self.behaviours.items()]
        ledger = Ledger(
            budget=self.plan.budget,
            keep_free=self.plan.keep_free,
            slots=self.slots,
            host_cache=self.plan.host_cache,
        )
        return Controller(models, ledger, policy or self.policy)


def load_fleet(path: Path, budget: str | None = None) -> Fleet:
    """Of a file; ``budget`` instead of the config's. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    config = with_budget(parse_config(_with_options(text), path.absolute().parent, str(path)), budget)
    try:
        return fleet_of(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _with_options(text: str) -> str:
    """The config with its short cuts put where the ordinary one has them."""
    try:
        data: Any = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return text  # parse_config says what is wrong with it
    models = data.get("models") if isinstance(data, dict) else None
    moved = False
    for model in models.values() if isinstance(models, dict) else ():
        if isinstance(model, dict) and isinstance(options := model.get("options", {}), dict):
            short = {key: model.pop(key) for key in SHORT_CUTS if key in model}
            model["options"] = {**options, **short}
            moved = moved or bool(short)
    return json.dumps(data) if moved else text  # JSON is YAML


def fleet_of(config: Config) -> Fleet:
    """Of a config. Raises ConfigError."""
    for name, model in config.models.items():
        if model.engine != "fake":
            raise ConfigError(f"models.{name}.engine: {model.engine} cannot be simulated; use fake")
    plan = _plan(config)
    policies = {name: defaults.model_policy(config, name) for name in config.models}
    options = {name: msgspec.convert(model.options, FakeOptions) for name, model in config.models.items()}
    return Fleet(
        policies={
            name: policy if options[name].wake_seconds is not None else replace(policy, sleeps=False, copies=False)
            for name, policy in policies.items()
        },
        behaviours={
            row.name: Behaviour(
                idle=row.footprint.idle.size,
                load=row.footprint.load_need,
                activation=row.footprint.activation.size,
                load_seconds=options[row.name].load_seconds,
                wake_seconds=options[row.name].wake_seconds,
                sleep_seconds=options[row.name].sleep_seconds,
                sleep_resident=options[row.name].sleep_resident,
                host_copy=row.footprint.host_copy.size if row.footprint.host_copy is not None else None,
            )
            for row in plan.rows
        },
        aliases={alias: name for name, model in config.models.items() for alias in (name, *model.aliases)},
        policy=Policy(config.scheduling.policy),
        plan=plan,
        slots=defaults.compute_slots(config),
    )


def _plan(config: Config) -> Plan:
    budget = config.device.budget
    if budget is None or budget.size is None:
        raise ConfigError("device.budget: a simulation asks no device; give a size such as 24GiB")
    total = budget.size + defaults.keep_free(config, budget.size)
    with TemporaryDirectory() as empty:  # what this machine has measured is no matter
        return make_plan(
            config, total=total, host=0, footprints=ProfileStore(Path(empty) / "none"), weights=Path(empty)
        )


def run_trace(
    fleet: Fleet, trace: Iterable[Arrival], policy: Policy | None = None, observers: Sequence[Observe] = ()
) -> Tally:
    """Run one trace until every request has ended; ``policy`` instead of the config's. Raises Stuck."""
    tally = Tally()
    shell = VirtualShell(
        fleet.controller(policy).handle, fleet.behaviours, total=fleet.total, observers=[tally.handled, *observers]
    )
    for arrival in trace:
        shell.ask(
            arrival.model,
            at=arrival.at,
            run_seconds=arrival.run_seconds,
            client=arrival.client,
            background=arrival.background,
        )
    shell.run()
    return tally

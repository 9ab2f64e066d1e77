"""From a config to a running server's parts."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from cohabit.config import defaults
from cohabit.config.model import Config
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import Model
from cohabit.devices import DeviceReader
from cohabit.engines.registry import engine_class, missing_libraries
from cohabit.protocol.parameters import Declared
from cohabit.protocol.spec import ModelSpec
from cohabit.runtime.control_loop import Observe
from cohabit.runtime.footprint_recorder import FootprintRecorder
from cohabit.runtime.inflight import Watcher
from cohabit.runtime.plan import Plan
from cohabit.runtime.profile_store import ProfileStore
from cohabit.runtime.server import Server
from cohabit.runtime.service import ModelInfo
from cohabit.runtime.workers.supervisor import Launch
from cohabit.sources import Cancelled, derive, resolve


def missing_engines(config: Config) -> list[str]:
    """One line for every model whose engine's libraries are not installed."""
    lines = []
    for name, model in config.models.items():
        engine = engine_class(model.engine)
        missing = missing_libraries(engine)
        if missing:
            extra = f": pip install 'cohabit[{engine.extra}]'" if engine.extra else ""
            lines.append(f"{name}: the engine {model.engine} needs {', '.join(missing)}{extra}")
    return lines


def assemble(
    config: Config,
    plan: Plan,
    device: DeviceReader,
    *,
    footprints: ProfileStore,
    weights: Path,
    derived: Path,
    watcher: Watcher,
    observers: Sequence[Observe],
    exposition: Callable[[], bytes],
) -> Server:
    """A server ready to start. Call it inside the running event loop."""
    models = [Model(defaults.model_policy(config, row.name), row.footprint) for row in plan.rows]
    return Server(
        infos=[_info(config, name) for name in config.models],
        models=models,
        launches=launches(config, weights, derived),
        ledger=Ledger(
            budget=plan.budget,
            keep_free=plan.keep_free + plan.inspection,
            slots=defaults.compute_slots(config),
            releases_when_reaped=defaults.place(config).kind == "cpu",
            host_cache=plan.host_cache,
        ),
        policy=Policy(config.scheduling.policy),
        device=device,
        place=defaults.place(config),
        stall=config.server.stall,
        watcher=watcher,
        observers=[*observers, FootprintRecorder(config, models, footprints).handled],
        exposition=exposition,
        inspection=plan.inspection,
    )


def launches(config: Config, weights: Path, made: Path) -> dict[str, Launch]:
    """What it takes to start each model. Files are looked for, and fetched and derived into these two folders."""
    return {name: _launch(config, name, weights, made) for name in config.models}


def _info(config: Config, name: str) -> ModelInfo:
    model = config.models[name]
    engine = engine_class(model.engine)
    options = msgspec.convert(model.options, engine.Options)
    return ModelInfo(
        name=name,
        engine=model.engine,
        tasks=engine.tasks,
        aliases=tuple(model.aliases),
        created=int(time.time()),
        context=getattr(options, "context", None),
        capabilities=engine.capabilities_with(options),
        speech=engine.speech,
        voices=model.voices,
        needs_picture=engine.needs_picture,
        declared=Declared(engine.Parameters, engine.refused, partial(engine.check, options=options)),
        longest_picture=engine.longest_picture,
    )


def _launch(config: Config, name: str, weights: Path, made: Path) -> Launch:
    model = config.models[name]
    derivations = defaults.derivations(model)

    def spec(cancelled: Cancelled) -> ModelSpec:
        def path(source: str) -> Path | None:
            return resolve(source, weights_dir=weights, base_dir=config.base_dir, cancelled=cancelled)

        source = path(model.source) if model.source is not None else None
        if source is not None:
            source = derive(source, derivations.get("source"), made, cancelled=cancelled)
        fetched = {role: found for role, text in model.files.items() if (found := path(text)) is not None}
        files = {
            role: derive(found, derivations.get(role), made, cancelled=cancelled) for role, found in fetched.items()
        }
        return defaults.model_spec(config, name, source, files)

    return Launch(
        spec,
        threads=defaults.slots(config, model),
        nice=defaults.niceness(config, model),
        max_stall=defaults.max_stall(config, model),
    )

"""What no single field can tell: engines and their options, names used twice, slots that are not there."""

from difflib import get_close_matches
from typing import Any

import msgspec

from cohabit.config import ConfigError
from cohabit.config.defaults import compute_slots, slots
from cohabit.config.model import Config, ModelConfig
from cohabit.engines.registry import ENGINES, engine_class
from cohabit.sources import SourceError, parse


def check(config: Config) -> None:
    """Raises ConfigError naming the first thing that cannot be."""
    taken: dict[str, str] = dict.fromkeys(config.models, "a model's name")
    for name, model in config.models.items():
        for alias in model.aliases:
            if alias in taken:
                raise ConfigError(f"models.{name}.aliases: {alias} is {taken[alias]} already")
            taken[alias] = f"an alias of {name}"
    for name, model in config.models.items():
        _check_engine(f"models.{name}", model)
        wanted, there = slots(config, model), compute_slots(config)
        if wanted > there:
            raise ConfigError(
                f"models.{name}: it takes {wanted} compute slots and the device has {there}; "
                f"lower its slots (on cpu: options.threads) or raise device.compute_slots"
            )


def _check_engine(where: str, model: ModelConfig) -> None:
    if model.engine not in ENGINES:
        near = get_close_matches(model.engine, ENGINES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"engines are {', '.join(ENGINES)}"
        raise ConfigError(f"{where}.engine: there is no engine {model.engine!r}; {hint}")
    engine = engine_class(model.engine)
    if engine.needs_source and model.source is None:
        raise ConfigError(f"{where}.source: is missing; the engine {model.engine} needs weights")
    own = engine.speech.voices if engine.speech is not None else ()
    for name, voice in model.voices.items():
        if voice not in own:
            has = f"its voices are {', '.join(own)}" if own else "it does not speak"
            raise ConfigError(f"{where}.voices.{name}: {model.engine} has no voice {voice}; {has}")
    sources = {"source": model.source} if model.source is not None else {}
    for role, source in {**sources, **{f"files.{role}": source for role, source in model.files.items()}}.items():
        try:
            parse(source)
        except SourceError as error:
            raise ConfigError(f"{where}.{role}: {error}") from None
    parse_options(where, model.options, engine.Options)


def parse_options(where: str, options: dict[str, Any], kind: type[msgspec.Struct]) -> msgspec.Struct:
    """An engine's options, typed. Raises ConfigError."""
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    for key in options:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}"
            raise ConfigError(f"{where}.options.{key}: unknown key; {hint}")
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        raise ConfigError(f"{where}.options{place.rstrip('`')}: {text[0].lower()}{text[1:]}") from None

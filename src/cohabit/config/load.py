"""From a file or a preset's name to a Config whose parts agree with each other."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from cohabit.config.checks import check
from cohabit.config.errors import ConfigError
from cohabit.config.model import (
    Config,
    DeviceConfig,
    ModelConfig,
    RemoteMediaConfig,
    SchedulingConfig,
    Section,
    ServerConfig,
    TlsConfig,
)
from cohabit.config.model import FootprintConfig as Footprint
from cohabit.config.quantities import Amount

DEFAULT_PRESET = "embedded"
_PRESETS = files("cohabit.config") / "presets"
_SECTIONS: dict[str, type[BaseModel]] = {
    "server": ServerConfig,
    "device": DeviceConfig,
    "scheduling": SchedulingConfig,
}


def presets() -> list[str]:
    """Names of the configs that come with cohabit."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _PRESETS.iterdir() if entry.name.endswith(".yaml"))


def load_config(source: str | None = None) -> Config:
    """An existing path, else a preset's name; None is the preset ``embedded``. Raises ConfigError."""
    source = source or DEFAULT_PRESET
    path = Path(source)
    if path.exists() and not path.is_dir():  # also a pipe, as the shell makes of <(...)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{source}: cannot be read: {error}") from None
        return parse_config(text, base_dir=path.absolute().parent, name=source)
    if source in presets():
        return parse_config((_PRESETS / f"{source}.yaml").read_text(encoding="utf-8"), Path.cwd(), name=source)
    near = get_close_matches(source, presets(), n=1)
    hint = f"; did you mean the preset {near[0]}?" if near else f"; presets are {', '.join(presets())}"
    raise ConfigError(f"{source}: there is no such file or preset{hint}")


def parse_config(text: str, base_dir: Path, name: str = "config") -> Config:
    """From YAML text. Raises ConfigError with one line."""
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        problem = (error.problem or "not YAML").splitlines()[0]
        raise ConfigError(f"{name}: {line}{problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{name}: {str(error).splitlines()[0]}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{name}: a mapping with the section `models` is needed")
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        # Unknown keys first: a misspelt one is also why another is missing.
        errors = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
        raise ConfigError(f"{name}: {_told(errors[0])}") from None
    config._base_dir = base_dir
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return config


def _told(error: Any) -> str:
    """One pydantic error as a line: the place, what is wrong, what would do."""
    place = [str(part) for part in error["loc"] if part != "[key]"]
    where = ".".join(place)
    if error["type"] == "extra_forbidden":
        return unknown_key(where, place[-1], list(_model_at(place[:-1]).model_fields))
    if error["type"] == "missing":
        return f"{where}: is missing"
    if error["type"] == "string_pattern_mismatch":
        return f"{where}: use letters, digits and . _ : / - only, beginning with a letter or digit"
    if error["type"] == "too_short":
        return f"{where}: at least one is needed"
    message = error["msg"]
    return f"{where}: {message[0].lower()}{message[1:]}"


def unknown_key(where: str, key: str, known: list[str]) -> str:
    """The line for a key nobody knows, with the nearest that somebody does."""
    near = get_close_matches(key, known, n=1)
    return f"{where}: unknown key; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}")


def _model_at(place: list[str]) -> type[BaseModel]:
    match place:
        case []:
            return Config
        case ["models", _]:
            return ModelConfig
        case ["models", _, "footprint"]:
            return Footprint
        case ["server", "remote_media"]:
            return RemoteMediaConfig
        case ["server", "tls"]:
            return TlsConfig
        case [section]:
            return _SECTIONS[section]
    raise AssertionError(f"nothing forbids keys at {place}")


def with_budget(config: Config, budget: str | None) -> Config:
    """The same config with another budget (``--budget``). Raises ConfigError."""
    if budget is None:
        return config
    try:
        amount = TypeAdapter(Amount).validate_python(budget)
    except ValidationError as error:
        raise ConfigError(f"--budget: {error.errors()[0]['msg']}") from None
    return _with(config, device=config.device.model_copy(update={"budget": amount}))


def with_journal(config: Config, limit: int) -> Config:
    """The same config with a journal of up to so many bytes (``--journal``)."""
    return _with(config, server=config.server.model_copy(update={"journal": limit}))


def _with(config: Config, **sections: Section) -> Config:
    changed = config.model_copy(update=sections)
    changed._base_dir = config.base_dir
    return changed

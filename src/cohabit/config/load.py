"""From a file or a preset's name to a Config whose parts agree with each other."""

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from cohabit.config import ConfigError
from cohabit.config.checks import check
from cohabit.config.model import Config, Section
from cohabit.config.units import Amount

DEFAULT_PRESET = "embedded"
_PRESETS = files("cohabit.config") / "presets"
_MAX_DEPTH = 50  # levels; a config has about five, and whatever reads it takes a frame of the stack for each


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
        _check_depth(text)
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
        raise ConfigError(f"{name}: {_line(errors[0])}") from None
    config._base_dir = base_dir
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    return config


def _check_depth(text: str) -> None:
    """Raises MarkedYAMLError for what is nested too deeply, before anything is made of it."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > _MAX_DEPTH:
            problem = f"nested deeper than {_MAX_DEPTH} levels"
            raise MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _line(error: Any) -> str:
    """One pydantic error as a line: the place, what is wrong, what would do."""
    place = [str(part) for part in error["loc"] if part != "[key]"]
    where = ".".join(place)
    if error["type"] == "extra_forbidden":
        return unknown_key(where, place[-1], list(_section_at(place[:-1]).model_fields))
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


def _section_at(place: list[str]) -> type[Section]:
    """The class of what stands at a place, as the fields of the classes say."""
    kind: type[Section] = Config
    names = iter(place)
    for name in names:
        annotation = kind.model_fields[name].annotation
        kind = next(each for each in (annotation, *get_args(annotation)) if _is_section(each))
        if get_origin(annotation) is dict:
            next(names)  # as a model is called
    return kind


def _is_section(kind: Any) -> TypeGuard[type[Section]]:
    return isinstance(kind, type) and issubclass(kind, Section)


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


def with_connections(config: Config, most: int) -> Config:
    """The same config with another limit of connections."""
    return _with(config, server=config.server.model_copy(update={"max_connections": most}))


def _with(config: Config, **sections: Section) -> Config:
    changed = config.model_copy(update=sections)
    changed._base_dir = config.base_dir
    return changed

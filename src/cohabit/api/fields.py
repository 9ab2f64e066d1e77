"""Which fields of a request are taken. There is one rule, on every route, in forms and in the lines of batches:

1. A field that the route knows is validated. A value that cannot be honoured is a 400.
2. So is a field that the engine of the model declares (``Engine.Parameters``).
3. Every other field is dropped: it is not even decoded, it is never sent on, and ``x-cohabit-warning`` names it.

The rule holds for fields inside of fields, too. The body is split before anything of it is decoded, since a field
that nobody reads may hold millions of values; and what is large is read in threads of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec
from starlette.requests import Request

from cohabit.api.bodies import LARGE, NotJson, decoded, encoded, parsed, read
from cohabit.api.errors import BadRequest
from cohabit.engines.registry import ENGINES, engine_class
from cohabit.protocol.parameters import BadParameter, parameters_of
from cohabit.protocol.tasks import Task
from cohabit.runtime.executors import PARSING
from cohabit.runtime.service import ModelInfo
from cohabit.schemas.base import Fields
from cohabit.schemas.json_schemas import BadSchema, check

MAX_CONTAINERS = 32_768  # arrays and objects in the fields that are read: a long conversation has some thousands
MAX_VALUES = 1 << 19  # entries of them; the tokens of all inputs of an embedding are the most
MAX_NAMED = 8  # dropped fields that a warning names

_MAX_COLONS = 1 << 16  # in fields that nobody knows: with more, they are not named one by one
_SURELY = 8  # with so many times as many marks not even long texts explain them
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TEXTS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ABSENT = msgspec.Raw()
_NOTHING = frozenset({b"null", b"false", b'""'})  # values by which nothing is asked for

F = TypeVar("F", bound=Fields)
T = TypeVar("T")
Raws = Mapping[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Split:
    """The fields of an object, not decoded."""

    known: dict[str, msgspec.Raw]  # those of the route
    others: dict[str, msgspec.Raw]  # the rest: all if there are few, else those that may be an engine's
    countless: bool  # so many others that they are not all there
    size: int  # bytes of the whole


@dataclass(slots=True)
class ValidatedBody(Generic[F]):
    """The fields that the route knows, validated, and what is left of the others."""

    body: F
    plain: dict[str, Any]  # of ``body`` what is sent on, as plain data
    others: Raws
    dropped: list[str]  # names of those inside of known ones
    without_effect: list[str]  # known ones that have no effect and that one might count on
    countless: bool
    size: int  # bytes of the whole
    text_bytes: int
    parameters: dict[str, Any] = field(default_factory=dict)  # those of the engine

    def choose(self, info: ModelInfo, task: Task, prefix: str = "") -> None:
        """Take what the engine of a model declares, and drop the rest. Raises BadRequest."""
        try:
            self.parameters, rest = info.declared.read(task, self.others)
        except BadParameter as bad:
            message = f"{prefix}{bad}"
            raise BadRequest(message, param=f"{prefix}{bad.param}", code=bad.code) from None
        self.dropped = [*rest, *self.dropped]

    def drop_others(self) -> str | None:
        """Drop them all, where no engine is asked; returns the warning for the client."""
        self.dropped = [*self.others, *self.dropped]
        return self.warning

    @property
    def warning(self) -> str | None:
        """That fields were dropped; names only, none that could be something else than a name."""
        return dropped_warning(self.dropped, countless=self.countless)

    async def sent(self) -> bytes:
        """What the engine is given. Raises ApiError 413."""
        return await apart(self.size, lambda: encoded({**self.plain, **self.parameters}))


def dropped_warning(names: Iterable[str], *, countless: bool = False) -> str | None:
    """The warning about dropped fields; None if there were none."""
    unique = list(dict.fromkeys(names))
    shown = [name for name in unique if _NAME.fullmatch(name)][:MAX_NAMED]
    left = len(unique) - len(shown)
    if not unique and not countless:
        return None
    more = ["more than can be named"] if countless else [f"{left} more"] if left else []
    return f"fields that are not known here were dropped: {', '.join([*shown, *more])}"


def warnings(*several: str | None) -> str | None:
    """Several in one header."""
    return "; ".join([one for one in several if one]) or None


async def apart(size: int, work: Callable[[], T]) -> T:
    """Do what takes long with a body of many bytes, in a thread if there are; what it raises is raised here."""
    if size <= LARGE:
        return work()
    return await PARSING.run(work)


async def read_fields(kind: type[F], request: Request) -> ValidatedBody[F]:
    """The body of a request. Raises ApiError, ClientDisconnect."""
    raw = await read(request)
    return await apart(len(raw), lambda: validate(kind, split(raw, kind)))


def split(raw: bytes | msgspec.Raw, kind: type[Fields], *more: str) -> Split:
    """An object's fields, with ``more`` names known. Raises BadRequest for what is no JSON object."""
    raw = bytes(raw)
    if len(raw) <= LARGE:
        decoded(raw)  # numbers and texts of dropped fields are looked at where that costs nothing
    names = _names(kind).union(more)
    try:
        if len(raw) <= LARGE:
            fields = others = _decode(raw, dict[str, msgspec.Raw])
            countless = False
        else:
            fields = _read_by_somebody(raw, kind, more)
            colons = raw.count(b":") - sum(bytes(value).count(b":") for value in fields.values())
            countless = colons > _MAX_COLONS
            others = fields if countless else _decode(raw, dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise BadRequest("the body must be an object") from None
    return Split(
        {name: value for name, value in fields.items() if name in names},
        {name: value for name, value in others.items() if name not in names},
        countless,
        len(raw),
    )


def _read_by_somebody(raw: bytes, kind: type[Fields], more: tuple[str, ...]) -> dict[str, msgspec.Raw]:
    fields = _decode(raw, _splitter(kind, more))
    values = ((info.encode_name, getattr(fields, info.name)) for info in msgspec.structs.fields(fields))
    return {name: value for name, value in values if value is not _ABSENT}


def validate(kind: type[F], fields: Split, prefix: str = "") -> ValidatedBody[F]:
    """The fields of a route as a model. Raises BadRequest naming a field that is wrong, never its value."""
    _refuse(kind, {name for name, raw in fields.known.items() if bytes(raw) not in _NOTHING}, prefix)
    raws = {name: raw for name, raw in fields.known.items() if name in _typed(kind)}
    if fields.size > LARGE:
        _bounded(raws.values())
    data = {name: decoded(bytes(raw)) for name, raw in raws.items()}
    without_effect = [
        name for name in kind.without_effect if name in fields.known and bytes(fields.known[name]) not in _NOTHING
    ]
    return _validated(kind, data, prefix, fields, without_effect)


def validate_form(kind: type[F], data: Mapping[str, Any]) -> ValidatedBody[F]:
    """Like ``validate``, for the fields of a form, which are all texts."""
    return validate_plain(kind, data, strict=False)


def validate_plain(kind: type[F], data: Mapping[str, Any], size: int = 0, *, strict: bool = True) -> ValidatedBody[F]:
    """Like ``validate``, for what was made of a body of so many bytes."""
    rest = {name: msgspec.Raw(msgspec.json.encode(data[name])) for name in data if name not in _names(kind)}
    fields = Split({}, rest, False, size)
    _refuse(kind, {name for name, value in data.items() if value not in (None, False, "")}, "")
    return _validated(
        kind, {name: data[name] for name in data if name in _typed(kind)}, "", fields, [], strict=strict
    )


def _refuse(kind: type[Fields], asked_for: set[str], prefix: str) -> None:
    """Raises BadRequest for a field that asks for what is not done here."""
    for name, why in kind.refused.items():
        if name in asked_for:
            raise BadRequest(why, param=prefix + name, code="unsupported_parameter")
    for name, why in kind.misplaced.items():
        if name in asked_for:
            raise BadRequest(why, param=prefix + name)


def _validated(
    kind: type[F], data: dict[str, Any], prefix: str, fields: Split, without_effect: list[str], *, strict: bool = True
) -> ValidatedBody[F]:
    body = parsed(kind, kind.completed(data), prefix, strict=strict)
    for place, schema in body.schemas():
        try:
            check(schema)
        except BadSchema as bad:
            raise BadRequest(f"{prefix}{place} {bad}", param=prefix + place) from None
    dropped: list[str] = []
    # Most bodies have nothing else in them: to see that costs a fraction of going through them here.
    plain = data if msgspec.to_builtins(body) == data else _known(body, data, "", dropped)
    return ValidatedBody(
        body,
        {name: value for name, value in plain.items() if value is not None and name not in kind.unsent},
        fields.others,
        dropped,
        without_effect,
        fields.countless,
        fields.size,
        body.text_bytes(),
    )


def _decode(raw: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotJson from None


def _bounded(raws: Iterable[msgspec.Raw]) -> None:
    """Raises BadRequest for more values than any request needs, before they are made."""
    values = list(map(bytes, raws))
    if not _many(values, 1):
        return
    if _many(values, _SURELY) or _many([_TEXTS.sub(b"", value) for value in values], 1):
        raise BadRequest(
            f"the body has more than {MAX_CONTAINERS} arrays and objects, or {MAX_VALUES} values; send less at once"
        )


def _many(values: list[bytes], factor: int) -> bool:
    containers = sum(value.count(b"[") + value.count(b"{") for value in values)
    return containers > factor * MAX_CONTAINERS or sum(value.count(b",") for value in values) > factor * MAX_VALUES


def _known(typed: Any, data: Any, place: str, dropped: list[str]) -> Any:
    """Plain data without what is not known.

    ``dropped`` is given the names of fields within known ones that the Structs do not know, by the path of names.
    """
    if isinstance(typed, list) and isinstance(data, list):
        return [_known(inner, given, place, dropped) for inner, given in zip(typed, data, strict=True)]
    if not isinstance(typed, msgspec.Struct) or not isinstance(data, dict):
        return data
    known, ignored = _attributes(type(typed)), getattr(typed, "ignored", ())
    kept = {}
    for name, given in data.items():
        if name in known:
            inner = known[name] and getattr(typed, known[name])
            kept[name] = _known(inner, given, f"{place}{name}.", dropped) if isinstance(given, list | dict) else given
        elif name not in ignored:
            dropped.append(place + name)
    return kept


@cache
def _attributes(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    """Attributes by the names that clients use; that of a tag is empty."""
    tag = kind.__struct_config__.tag_field
    named = {info.encode_name: info.name for info in msgspec.structs.fields(kind)}
    return named if tag is None else {tag: "", **named}


@cache
def _typed(kind: type[Fields]) -> frozenset[str]:
    return frozenset(_attributes(kind))


@cache
def _names(kind: type[Fields]) -> frozenset[str]:
    return _typed(kind) | kind.refused.keys() | kind.misplaced.keys() | kind.ignored | kind.without_effect


@cache
def _splitter(kind: type[Fields], more: tuple[str, ...]) -> type[msgspec.Struct]:
    """Every field that somebody reads, each as it came: others are skipped without being made."""
    declared = {
        name
        for engine in ENGINES
        for parameters in engine_class(engine).Parameters.values()
        for name in parameters_of(parameters)
    } | {name for engine in ENGINES for name in engine_class(engine).refused}
    names = sorted(_names(kind).union(more, declared))
    renamed = {f"field_{number}": name for number, name in enumerate(names)}
    return msgspec.defstruct("Splitter", [(name, msgspec.Raw, _ABSENT) for name in renamed], rename=renamed)

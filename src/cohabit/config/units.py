"""Sizes such as ``5.5GiB``, shares such as ``80%``, times such as ``10m``, as people write them."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    ByteSize,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_SIZE = TypeAdapter(ByteSize)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_NEVER = "never"
_SMALLEST_AMOUNT = 1 << 20  # `budget: 700` is 700 bytes, and never meant so


def parse_size(value: Any) -> int:
    """Bytes from ``5.5GiB``, ``512 MB`` or a plain number. Raises a validation error."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise PydanticCustomError("size", "a size such as 512MiB or 5.5GiB is needed")
    try:
        size = int(_SIZE.validate_python(value))
    except ValueError:
        raise PydanticCustomError("size", "a size such as 512MiB or 5.5GiB is needed") from None
    if size < 0:
        raise PydanticCustomError("size", "a size cannot be negative")
    return size


def parse_duration(value: Any) -> float:
    """Seconds from ``30s``, ``1h30m`` or a plain number. Raises a validation error."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    if isinstance(value, str):
        text = value.strip().lower()
        parts = _DURATION.findall(text)
        if parts and _DURATION.sub("", text).strip() == "":
            return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    raise PydanticCustomError("duration", "a time such as 30s, 10m or 1h30m is needed")


def parse_keep_alive(value: Any) -> float | None:
    """A duration, or None for ``never``."""
    if value is None or (isinstance(value, str) and value.strip().lower() == _NEVER):
        return None
    return parse_duration(value)


@dataclass(frozen=True, slots=True)
class Amount:
    """Bytes, or a share of what the device has."""

    size: int | None = None
    share: float | None = None  # 0 to 1

    def of(self, total: int) -> int:
        """In bytes, for a device with ``total`` bytes."""
        if self.share is not None:
            return int(total * self.share)
        return self.size or 0

    @classmethod
    def parse(cls, value: Any) -> "Amount":
        """From ``80%`` or a size of 1 MiB or more, or 0. Raises a validation error."""
        if isinstance(value, Amount):
            return value
        if isinstance(value, str) and value.strip().endswith("%"):
            try:
                share = float(value.strip()[:-1]) / 100
            except ValueError:
                share = -1.0
            if not 0 < share <= 1:
                raise PydanticCustomError("size", "a share between 0% and 100% is needed, such as 80%")
            return cls(share=share)
        size = parse_size(value)
        if 0 < size < _SMALLEST_AMOUNT:
            raise PydanticCustomError("size", "less than 1 MiB is not usable: give a unit, such as 700MiB or 5.5GiB")
        return cls(size=size)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validated by ``parse``."""
        return core_schema.no_info_plain_validator_function(cls.parse)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """As an editor should know it."""
        return {"anyOf": [_SIZE_SCHEMA, {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*%\s*$"}]}


_SIZE_SCHEMA: JsonSchemaValue = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([kKmMgGtTpP]?[iI]?[bB])?\s*$"},
    ],
    "examples": ["512MiB", "5.5GiB"],
}
_DURATION_SCHEMA: JsonSchemaValue = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+$"},
    ],
    "examples": ["30s", "10m"],
}

Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
Seconds = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_DURATION_SCHEMA)]
KeepAlive = Annotated[
    float | None,
    BeforeValidator(parse_keep_alive),
    WithJsonSchema({"anyOf": [*_DURATION_SCHEMA["anyOf"], {"const": _NEVER}], "examples": ["never", "10m"]}),
]

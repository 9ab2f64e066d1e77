"""``/inference``'s own bodies."""

from typing import Any

import msgspec
import pytest
from msgspec import ValidationError

from cohabit.schemas.inference import ChatData, EmbedData, InferenceRequest


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (InferenceRequest, {"type": "chat", "data": {}}),
        (InferenceRequest, {"type": "embed", "data": {"anything": 1}, "model": "llm"}),
        (ChatData, {"prompt": "hello"}),
        (ChatData, {"messages": [{}], "stream": False}),
        (EmbedData, {"text": "a"}),
        (EmbedData, {"texts": ["a", "b"]}),
    ],
)
def test_valid_data_is_accepted(kind: type[msgspec.Struct], body: dict[str, Any]) -> None:
    found = msgspec.convert(body, kind)
    assert {name: getattr(found, name) for name in body} == body


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (InferenceRequest, {"type": "chat"}),
        (InferenceRequest, {"type": "dance", "data": {}}),
        (InferenceRequest, {"type": "chat", "data": {}, "model": ""}),
        (ChatData, {"prompt": ""}),
        (ChatData, {"prompt": "hello", "stream": True}),
        (EmbedData, {"text": ""}),
        (EmbedData, {"texts": []}),
        (EmbedData, {"texts": [""]}),
        (EmbedData, {"texts": ["a"] * 2049}),
    ],
)
def test_invalid_data_is_refused(kind: type[msgspec.Struct], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        msgspec.convert(body, kind)

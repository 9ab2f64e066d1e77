"""``/inference``'s own bodies."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

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
def test_taken(kind: type[BaseModel], body: dict[str, Any]) -> None:
    assert kind.model_validate(body).model_dump(exclude_unset=True) == body


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
def test_refused(kind: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate(body)

"""OpenAI's shapes, as OpenAI's own client reads them."""

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from cohabit.engines.answer_builder import AnswerBuilder, usage, wants_usage
from cohabit.protocol.engine import EngineRequest
from cohabit.protocol.tasks import Task


def answer(task: Task = Task.CHAT) -> AnswerBuilder:
    return AnswerBuilder("m", EngineRequest(7, task, b"{}"))


def read(data: bytes) -> Any:
    return json.loads(data)


@pytest.mark.parametrize("task", [Task.CHAT, Task.DESCRIBE])
def test_plain_chat_has_openais_shape(task: Task) -> None:
    found = ChatCompletion.model_validate(read(answer(task).whole("hi", "stop", usage(2, 3), findings=[1])))
    assert found.choices[0].message.content == "hi"
    assert found.usage is not None
    assert found.usage.total_tokens == 5
    assert found.model_extra == {"findings": [1]}


def test_pieces_of_a_chat_share_their_id() -> None:
    made = answer()
    found = [
        ChatCompletionChunk.model_validate(read(piece))
        for piece in (made.piece("a"), made.piece(None, "stop"), made.usage_piece(usage(1, 1)))
    ]
    assert {one.id for one in found} == {"m-7"}
    assert found[0].choices[0].delta.content == "a"
    assert (found[1].choices[0].delta.content, found[1].choices[0].finish_reason) == (None, "stop")
    assert found[2].choices == []


def test_completion_has_openais_shape() -> None:
    made = answer(Task.COMPLETE)
    assert Completion.model_validate(read(made.whole("x", "length", usage(1, 1)))).choices[0].text == "x"
    assert read(made.piece("y"))["choices"] == [{"index": 0, "finish_reason": None, "logprobs": None, "text": "y"}]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [({}, False), ({"stream_options": None}, False), ({"stream_options": {"include_usage": True}}, True)],
)
def test_usage_is_sent_only_if_requested(body: dict[str, Any], wanted: bool) -> None:
    assert wants_usage(body) is wanted

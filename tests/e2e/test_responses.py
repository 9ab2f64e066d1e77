"""Responses, tools, schemas and log probabilities through the official client: the preset's real models."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel, ConfigDict, Field

from harness import Running
from samples import data_url, picture

pytestmark = [pytest.mark.process, pytest.mark.model]

QUESTION = "Which city is the capital of France?"
ASKED: Any = {"model": "gpt-4o-mini", "input": QUESTION, "temperature": 0, "max_output_tokens": 24}


class City(BaseModel):
    """What the model is held to."""

    model_config = ConfigDict(extra="forbid")

    city: str = Field(max_length=10)


WEATHER: dict[str, Any] = {"name": "weather", "description": "of a city", "parameters": City.model_json_schema()}
TOOL: Any = {"type": "function", "strict": True, **WEATHER}


def test_response_has_openais_shape(client: openai.OpenAI) -> None:
    whole = client.responses.create(**ASKED)
    assert "Paris" in whole.output_text
    assert (whole.status, whole.model, whole.store) == ("completed", "llm", False)
    assert whole.usage.input_tokens > 5
    with client.responses.stream(**ASKED) as stream:
        kinds = [event.type for event in stream]
        last = stream.get_final_response()
    assert last.output_text == whole.output_text
    assert last.usage == whole.usage
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-1] == "response.completed"


def test_truncated_response_is_incomplete(client: openai.OpenAI) -> None:
    cut = client.responses.create(
        model="llm", input="Tell me a long story.", instructions="Go on.", max_output_tokens=3
    )
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"


def test_tool_call_and_its_output_round_trip(client: openai.OpenAI) -> None:
    asked: Any = {"model": "llm", "tools": [TOOL], "temperature": 0}
    first = client.responses.create(input="What is the weather in Paris?", tool_choice="required", **asked)
    (call,) = first.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert set(json.loads(call.arguments)) == {"city"}
    turns: Any = [
        {"role": "user", "content": "What is the weather in Paris?"},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    second = client.responses.create(input=turns, max_output_tokens=24, **asked)
    assert "sunny" in second.output_text
    with client.responses.stream(input="What is the weather in Paris?", tool_choice="required", **asked) as stream:
        deltas = [event.delta for event in stream if event.type == "response.function_call_arguments.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == call.arguments


def test_structured_answers_are_parsed(client: openai.OpenAI) -> None:
    response = client.responses.parse(model="llm", input="Name a city.", text_format=City, temperature=0)
    assert isinstance(response.output_parsed, City)
    chat = client.chat.completions.parse(
        model="llm", messages=[{"role": "user", "content": "Name a city."}], response_format=City, temperature=0
    )
    assert isinstance(chat.choices[0].message.parsed, City)


def test_a_chat_calls_a_tool_by_name(client: openai.OpenAI) -> None:
    asked: Any = {
        "model": "llm",
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "tools": [{"type": "function", "function": WEATHER}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "temperature": 0,
    }
    (choice,) = client.chat.completions.create(**asked).choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert City.model_validate_json(call.function.arguments)
    with client.chat.completions.stream(**asked) as stream:
        final = stream.get_final_completion().choices[0].message
    assert final.tool_calls is not None
    assert final.tool_calls[0].function.arguments == call.function.arguments


def test_logprobs_are_returned(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model="llm", messages=[{"role": "user", "content": QUESTION}], max_tokens=2, logprobs=True, top_logprobs=3
    )
    assert chat.choices[0].logprobs is not None
    assert [len(entry.top_logprobs) for entry in chat.choices[0].logprobs.content or []] == [3, 3]
    text = client.completions.create(
        model="llm", prompt="The capital of France is", max_tokens=2, logprobs=1, echo=False
    )
    lists = text.choices[0].logprobs
    assert lists is not None
    assert len(lists.tokens or []) == len(lists.token_logprobs or []) == len(lists.top_logprobs or []) == 2


def test_unsupported_fields_are_refused_or_warned_about(server: Running, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="llm", input="hello", previous_response_id="resp_1")
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "previous_response_id")
    bad: Any = {"format": {"type": "json_schema", "name": "n", "schema": {"$ref": "#/$defs/canary"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="llm", input="hello", text=bad)
    assert refused.value.param == "text.format.schema"
    parts: Any = [{"type": "input_image", "image_url": data_url(picture()), "detail": "auto"}]
    seen = client.responses.with_raw_response.create(
        model="vision", input=[{"role": "user", "content": parts}], temperature=0
    )
    assert seen.headers["x-cohabit-warning"] == "vision ignores temperature"
    assert "picture" in seen.parse().output_text
    with pytest.raises(openai.BadRequestError, match="vision cannot call tools; models that can: llm"):
        client.responses.create(model="vision", input=[{"role": "user", "content": parts}], tools=[TOOL])
    assert "canary" not in server.log.read_text()

"""What a model does not support is refused by name or warned about, never left out in silence."""

from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, CHAT, FakeService, Served, as_asked
from cohabit.api.errors import BadRequest
from cohabit.api.model_support import require
from cohabit.protocol.tasks import Capability, Task
from samples import asking, picture

CHATS, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
SEEN = {"model": "labels", "messages": asking(picture())}
ONCE = {"model": "llm", "prompt": "Once"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


async def refused(http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> tuple[str, str, str]:
    """The code, the field and the message of a 400."""
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    assert CANARY not in answer.text
    error = answer.json()["error"]
    return error["code"], error["param"], error["message"]


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("tools", TOOLS),
        ("response_format", SCHEMA),
        ("response_format", {"type": "json_object"}),
        ("logprobs", True),
        ("n", 2),
        ("stop", ["a"]),
    ],
)
async def test_parameter_that_would_change_the_answer_is_refused(param: str, value: Any, served: Served) -> None:
    code, named, message = await refused(served.http, CHATS, {**SEEN, param: value})
    assert (code, named) == ("unsupported_parameter", param)
    assert message.endswith("models that can: llm, seer")
    assert served.service.calls == []


@pytest.mark.parametrize(("param", "value"), [("suffix", "b"), ("best_of", 2)], ids=["suffix", "best_of"])
async def test_parameter_that_no_model_supports_is_refused(param: str, value: Any, served: Served) -> None:
    code, named, message = await refused(served.http, COMPLETIONS, {**ONCE, param: value})
    assert (code, named) == ("unsupported_parameter", param)
    assert message.endswith("no configured model can")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHATS, {**CHAT, "tools": TOOLS, "tool_choice": "required", "n": 2, "stop": "a", "logprobs": True}),
        (CHATS, {**CHAT, "response_format": SCHEMA, "temperature": 0, "seed": 1, "top_logprobs": None}),
        (CHATS, {**SEEN, "tools": TOOLS, "tool_choice": "none", "n": 1, "stop": [], "logprobs": False}),
        (CHATS, {**SEEN, "response_format": {"type": "text"}, "user": "ann", "metadata": {}, "functions": None}),
        (CHATS, {**CHAT, "modalities": ["text"], "store": False, "service_tier": "auto"}),
        (COMPLETIONS, {**ONCE, "echo": True, "logprobs": 0, "n": 2, "best_of": 2, "suffix": ""}),
    ],
)
async def test_supported_and_harmless_parameters_are_accepted(
    path: str, body: dict[str, Any], http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    answer = await http.post(path, json=body)
    assert answer.status_code == 200
    assert "x-cohabit-warning" not in answer.headers


@pytest.mark.parametrize("stream", [True, False])
async def test_ignored_parameter_is_warned_about(
    stream: bool, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    answer = await http.post(CHATS, json={**SEEN, "seed": 1, "temperature": 0, "store": True, "stream": stream})
    assert answer.status_code == 200
    assert answer.headers["x-cohabit-warning"] == "labels ignores temperature, seed, store"


@pytest.mark.parametrize("field", ["functions", "function_call", "audio", "web_search_options", "modalities"])
async def test_unsupported_field_is_refused(field: str, http: httpx2.AsyncClient) -> None:
    value = ["text", CANARY] if field == "modalities" else {CANARY: CANARY}
    code, named, _ = await refused(http, CHATS, {**CHAT, field: value})
    assert (code, named) == ("unsupported_parameter", field)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": CANARY}}}, "tool_choice"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": CANARY}}}]},
            "tools.0.function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": f"{CANARY} x"}}]}, "tools.0.function.name"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        ({"messages": [{"role": "tool", "content": CANARY}]}, "messages.0.tool_call_id"),
    ],
)
async def test_inconsistent_request_is_refused(fields: dict[str, Any], param: str, http: httpx2.AsyncClient) -> None:
    code, named, _ = await refused(http, CHATS, {**CHAT, **fields})
    assert (code, named) == ("invalid_request", param)


def test_first_unsupported_field_is_named_with_models_that_support_it(service: FakeService) -> None:
    labels = service.models["labels"]
    needed = {"temperature": Capability.SAMPLING, "tools": Capability.TOOLS}
    with pytest.raises(BadRequest) as refused:
        require(service, labels, Task.CHAT, needed, prefix="data.")
    error = refused.value.body["error"]
    assert error["param"] == "data.temperature"
    assert error["code"] == "unsupported_parameter"
    assert error["message"] == "labels cannot be told how to choose its words; models that can: llm, seer"


def test_error_says_if_no_model_supports_a_field(service: FakeService) -> None:
    with pytest.raises(BadRequest, match="llm cannot translate speech; no configured model can"):
        require(service, service.models["llm"], Task.CHAT, {"x": Capability.TRANSLATE})


def test_supported_field_is_accepted(service: FakeService) -> None:
    require(service, service.models["llm"], Task.CHAT, {"temperature": Capability.SAMPLING})

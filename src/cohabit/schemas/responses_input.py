"""A body of ``/v1/responses`` as the chat that is asked of an engine."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from cohabit.schemas.responses import (
    CallItem,
    InputImage,
    InputText,
    Item,
    MessageItem,
    NamedFunction,
    OutputItem,
    OutputText,
    Part,
    Refusal,
    ResponseRequest,
    ResponseSchemaFormat,
)

LOGPROBS = "message.output_text.logprobs"  # of ``include``
NAMES: Mapping[str, str] = MappingProxyType(
    {"messages": "input", "response_format": "text.format", "logprobs": "include"}
)
"""What a field of the chat is called here."""

Turn = dict[str, Any]


def chat_of(asked: ResponseRequest) -> dict[str, Any]:
    """The chat's body."""
    form = asked.text.format if asked.text is not None else None
    choice = asked.tool_choice
    body = {
        "model": asked.model,
        "messages": list(_turns(asked)),
        "max_completion_tokens": asked.max_output_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "seed": asked.seed,
        "stop": asked.stop,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "logit_bias": asked.logit_bias,
        "tools": [{"type": "function", "function": _described(tool, "type")} for tool in asked.tools or []] or None,
        "tool_choice": {"type": "function", "function": {"name": choice.name}}
        if isinstance(choice, NamedFunction)
        else choice,
        "parallel_tool_calls": asked.parallel_tool_calls,
        "response_format": {"type": "json_schema", "json_schema": _described(form, "type")}
        if isinstance(form, ResponseSchemaFormat)
        else form and msgspec.to_builtins(form),
        "stream": asked.stream,
        "stream_options": {"include_usage": True} if asked.stream else None,
    }
    if LOGPROBS in (asked.include or []):
        body |= {"logprobs": True, "top_logprobs": asked.top_logprobs}
    return {key: value for key, value in body.items() if value is not None}


def _described(what: Any, *left_out: str) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(what)
    return {name: value for name, value in plain.items() if name not in left_out}


def _turns(asked: ResponseRequest) -> Iterator[Turn]:
    """What the model said and what it called in one go is one turn of a chat, and several items here."""
    if asked.instructions is not None:
        yield {"role": "system", "content": asked.instructions}
    if isinstance(asked.input, str):
        yield {"role": "user", "content": asked.input}
        return
    open_turn: Turn | None = None
    for item in asked.input:
        turn = _turn(item)
        if turn is None:
            continue
        if open_turn is not None and turn["role"] == "assistant" and "tool_calls" in turn:
            open_turn.setdefault("tool_calls", []).extend(turn["tool_calls"])
            continue
        if open_turn is not None:
            yield open_turn
            open_turn = None
        if turn["role"] == "assistant":
            open_turn = turn
        else:
            yield turn
    if open_turn is not None:
        yield open_turn


def _turn(item: Item) -> Turn | None:
    match item:
        case MessageItem():
            return {"role": item.role, "content": _content(item.content)}
        case CallItem():
            function = {"name": item.name, "arguments": item.arguments}
            call = {"id": item.call_id, "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case OutputItem():
            return {"role": "tool", "tool_call_id": item.call_id, "content": _content(item.output)}
        case _:
            return None


def _content(content: str | Sequence[Part]) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _part(part: Part) -> dict[str, Any]:
    match part:
        case InputImage():
            detail = {} if part.detail in {None, "original"} else {"detail": part.detail}
            return {"type": "image_url", "image_url": {"url": part.image_url, **detail}}
        case Refusal():
            return {"type": "refusal", "refusal": part.refusal}
        case InputText() | OutputText():
            return {"type": "text", "text": part.text}

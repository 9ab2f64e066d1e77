"""A chat's answer as ``/v1/responses`` tells it: events in OpenAI's order, and the whole at the end.

response.created, response.in_progress, then for each item response.output_item.added, what is added to it,
response.output_item.done; last response.completed, .incomplete or .failed.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from cohabit.schemas.responses import NamedFunction, ResponseRequest

Event = dict[str, Any]
Piece = Mapping[str, Any]

_DEFAULTS: Event = {"store": False, "previous_response_id": None, "background": False, "truncation": "disabled"}


class ResponseEvents:
    """One response, from its beginning to its end. Items follow each other: one begins when the last has ended."""

    def __init__(self, asked: ResponseRequest, model: str) -> None:
        """``model`` is who answers."""
        self.response: Event = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            **_DEFAULTS,
            **_repeated(asked),
        }
        self._sequence = 0
        self._item: Event | None = None  # the one that is open
        self._call = -1  # of the chat's calls, the one that is open
        self._finish: str | None = None

    def begin(self) -> Iterator[Event]:
        """Before there is anything of the answer."""
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response={**self.response})

    def on_chunk(self, chunk: Piece) -> Iterator[Event]:
        """Of a ``chat.completion.chunk``."""
        self._note(chunk)
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {}
            yield from self._add(delta, (choice.get("logprobs") or {}).get("content") or [])

    def whole(self, answer: Piece) -> Event:
        """The response out of a whole ``chat.completion``."""
        self._note(answer)
        (choice,) = answer["choices"]
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        for _ in self._add(_numbered(choice["message"]), logprobs):
            pass
        for _ in self.end():
            pass
        return self.response

    def end(self) -> Iterator[Event]:
        """After the last of the answer."""
        cut = self._finish == "length"
        yield from self._close("incomplete" if cut else "completed")
        if cut:
            self.response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        else:
            self.response["status"] = "completed"
        yield self._event(f"response.{self.response['status']}", response=self.response)

    def fail(self, status: int, error: Mapping[str, Any]) -> Iterator[Event]:
        """It ends without its answer, for what elsewhere would be an error of this HTTP status."""
        yield from self._close("incomplete")
        # OpenAI's clients know a closed list of codes here; ours is beside it.
        code = "rate_limit_exceeded" if status == 429 else "invalid_prompt" if status < 500 else "server_error"
        described = {"code": code, "message": error["message"], "cause": error["code"]}
        self.response |= {"status": "failed", "error": described}
        yield self._event("response.failed", response=self.response)

    def _note(self, piece: Piece) -> None:
        for choice in piece["choices"]:
            self._finish = choice.get("finish_reason") or self._finish
        if piece.get("usage"):
            self.response["usage"] = _usage(piece["usage"])

    def _add(self, delta: Piece, logprobs: list[Event]) -> Iterator[Event]:
        if delta.get("content"):
            yield from self._say(delta["content"], logprobs)
        for call in delta.get("tool_calls") or []:
            yield from self._call_on(call)

    def _say(self, text: str, logprobs: list[Event]) -> Iterator[Event]:
        if self._item is None or self._item["type"] != "message":
            content: list[Event] = []
            yield from self._open({"type": "message", "role": "assistant", "content": content}, "msg")
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield self._event("response.content_part.added", **self._place(part=True), part={**part})
            content.append(part)
        part = self._current["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs
        yield self._event("response.output_text.delta", **self._place(part=True), delta=text, logprobs=logprobs)

    def _call_on(self, call: Piece) -> Iterator[Event]:
        function = call.get("function") or {}
        if call["index"] != self._call:
            self._call = call["index"]
            item = {"type": "function_call", "call_id": call["id"], "name": function["name"], "arguments": ""}
            yield from self._open(item, "fc")
        if arguments := function.get("arguments"):
            self._current["arguments"] += arguments
            yield self._event("response.function_call_arguments.delta", **self._place(), delta=arguments)

    def _open(self, item: Event, kind: str) -> Iterator[Event]:
        yield from self._close("completed")
        self._item = {"id": f"{kind}_{secrets.token_hex(24)}", "status": "in_progress", **item}
        self.response["output"] = [*self.response["output"], self._item]
        yield self._event("response.output_item.added", output_index=self._index, item=_copied(self._item))

    def _close(self, status: str) -> Iterator[Event]:
        item = self._item
        if item is None:
            return
        if item["type"] == "message":
            part = item["content"][0]
            done = {"text": part["text"], "logprobs": part["logprobs"]}
            yield self._event("response.output_text.done", **self._place(part=True), **done)
            yield self._event("response.content_part.done", **self._place(part=True), part=part)
        else:
            done = {"name": item["name"], "arguments": item["arguments"]}
            yield self._event("response.function_call_arguments.done", **self._place(), **done)
        item["status"] = status
        yield self._event("response.output_item.done", output_index=self._index, item=item)
        self._item = None

    @property
    def _current(self) -> Event:
        if self._item is None:
            raise AssertionError("an item is open")
        return self._item

    @property
    def _index(self) -> int:
        return len(self.response["output"]) - 1

    def _place(self, *, part: bool = False) -> Event:
        place = {"item_id": self._current["id"], "output_index": self._index}
        return {**place, "content_index": 0} if part else place

    def _event(self, kind: str, **fields: Any) -> Event:
        self._sequence += 1
        return {"type": kind, "sequence_number": self._sequence - 1, **fields}


def _copied(item: Event) -> Event:
    """As it is now: what is added later is not in it."""
    return {**item, "content": []} if item["type"] == "message" else {**item}


def _numbered(message: Piece) -> Piece:
    """Calls of a whole answer do not say which they are; those of a stream do."""
    calls = [{"index": index, **call} for index, call in enumerate(message.get("tool_calls") or [])]
    return {**message, "tool_calls": calls}


def _repeated(asked: ResponseRequest) -> Event:
    """What was asked, which the response repeats."""
    choice = asked.tool_choice
    form = asked.text.format if asked.text is not None else None
    return {
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": True if asked.parallel_tool_calls is None else asked.parallel_tool_calls,
        "reasoning": {"effort": None, "summary": None},
        "temperature": asked.temperature,
        "text": {"format": {"type": "text"} if form is None else msgspec.to_builtins(form)},
        "tool_choice": msgspec.to_builtins(choice) if isinstance(choice, NamedFunction) else choice or "auto",
        "tools": [{"parameters": None, "strict": None, **msgspec.to_builtins(tool)} for tool in asked.tools or []],
        "top_p": asked.top_p,
        "user": asked.user,
    }


def _usage(used: Piece) -> Event:
    return {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used["total_tokens"],
    }

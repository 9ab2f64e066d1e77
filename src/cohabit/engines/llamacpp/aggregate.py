"""A plain answer out of streamed pieces, and pieces as OpenAI would send them.

Shapes: OpenAI's ``chat.completion.chunk`` -> ``chat.completion`` and ``text_completion`` pieces -> whole.
"""

import time
from collections.abc import Sequence
from typing import Any

from cohabit.engines.llamacpp.tool_calls import Offer, ToolCallReader

Piece = dict[str, Any]

_FOREIGN = ("timings", "__verbose", "usage", "prompt_progress")  # what llama.cpp adds


class Aggregate:
    """Collects one answer, whatever its number of choices."""

    def __init__(
        self,
        model: str,
        *,
        chat: bool,
        choices: int = 1,
        logprobs: int | None = None,
        echoed: Sequence[str] = (),
        offer: Offer | None = None,
    ) -> None:
        """``model`` is what the answer names. ``choices`` are those of each prompt; ``logprobs`` is how many
        alternatives to each token are told of, None for no log probabilities; ``echoed`` are the prompts that go
        before their answers; with ``offer`` the text is read for calls of its functions.
        """
        self.tokens = 0  # pieces with something generated in them
        self._model = model
        self._chat = chat
        self._of_each = choices
        self._logprobs = logprobs
        self._echoed = echoed
        self._offer = offer
        self._readers: dict[int, ToolCallReader] = {}
        self._head: Piece = {}
        self._choices: dict[int, Piece] = {}
        self._usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    def add(self, piece: Piece) -> Piece | None:
        """Take a piece in; returns it as OpenAI would send it, None if it would not."""
        self._note_usage(piece)
        progress = "prompt_progress" in piece
        piece = {key: value for key, value in piece.items() if key not in _FOREIGN}
        piece["model"] = self._model
        if not self._chat and "id" in piece:
            piece["id"] = piece["id"].replace("chatcmpl-", "cmpl-")
        if not self._head:
            self._head = {key: piece[key] for key in ("id", "created", "system_fingerprint") if key in piece}
        if progress or not piece.get("choices"):
            return None  # the prompt is still being read, or it is the usage, which goes out once at the end
        self.tokens += sum(1 for choice in piece["choices"] if _generated(choice))
        for choice in piece["choices"]:
            self._shape(choice)
            self._collect(choice)
        return piece if any(_says(choice) for choice in piece["choices"]) else None

    def whole(self) -> Piece:
        kind = "chat.completion" if self._chat else "text_completion"
        choices = [self._choices[index] for index in sorted(self._choices)]
        return {**self._framed(kind), "choices": choices, "usage": self._usage}

    def usage_chunk(self) -> Piece:
        """What OpenAI sends last if ``include_usage`` was asked for."""
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return {**self._framed(kind), "choices": [], "usage": self._usage}

    def _framed(self, kind: str) -> Piece:
        return {"id": "", "created": int(time.time()), **self._head, "object": kind, "model": self._model}

    def _note_usage(self, piece: Piece) -> None:
        """Every choice comes with a usage of its own, in which its prompt is counted anew."""
        usage = piece.get("usage")
        if not usage:
            return
        again = self._usage["prompt_tokens"] if self._chat else piece["choices"][0]["index"] % self._of_each
        if not again:
            self._usage["prompt_tokens"] += usage["prompt_tokens"]
        self._usage["completion_tokens"] += usage["completion_tokens"]
        self._usage["total_tokens"] = self._usage["prompt_tokens"] + self._usage["completion_tokens"]

    def _shape(self, choice: Piece) -> None:
        """As OpenAI would send it."""
        index = choice.setdefault("index", 0)
        first = index not in self._choices
        kept = self._choices.setdefault(index, self._empty(index))
        if not self._chat and first and self._echoed:
            choice["text"] = self._echoed[index // self._of_each] + (choice.get("text") or "")
        found = (choice.get("logprobs") or {}).get("content")
        choice["logprobs"] = None
        if found and self._logprobs is not None:
            choice["logprobs"] = (
                _of_chat(found, self._logprobs)
                if self._chat
                else _of_completion(found, self._logprobs, len(kept["text"]))
            )
        if self._offer is not None:
            self._readers.setdefault(index, ToolCallReader(self._offer)).read(choice)
        delta = choice.get("delta")
        if delta and delta.get("content", "") is None:
            delta["content"] = ""  # as OpenAI's first chunk

    def _collect(self, choice: Piece) -> None:
        kept = self._choices[choice["index"]]
        if choice.get("finish_reason") is not None:
            kept["finish_reason"] = choice["finish_reason"]
        if choice["logprobs"] is not None:
            for key, found in choice["logprobs"].items():
                kept["logprobs"] = kept["logprobs"] or {}
                kept["logprobs"][key] = found if found is None else [*(kept["logprobs"].get(key) or []), *found]
        if not self._chat:
            kept["text"] += choice.get("text") or ""
            return
        message = kept["message"]
        for key, value in (choice.get("delta") or {}).items():
            if key == "tool_calls":
                _merge_tool_calls(message.setdefault("tool_calls", []), value)
            elif key == "role":
                message["role"] = value
            elif isinstance(value, str):
                message[key] = (message.get(key) or "") + value
        if message.get("tool_calls") and not message["content"]:
            message["content"] = None  # as OpenAI says it

    def _empty(self, index: int) -> Piece:
        choice: Piece = {"index": index, "finish_reason": None, "logprobs": None}
        return {**choice, "message": {"role": "assistant", "content": ""}} if self._chat else {**choice, "text": ""}


def _generated(choice: Piece) -> bool:
    delta = choice.get("delta") or {}
    return bool(
        choice.get("text") or delta.get("content") or delta.get("reasoning_content") or delta.get("tool_calls")
    )


def _says(choice: Piece) -> bool:
    return bool(choice.get("delta") or choice.get("text") or choice.get("finish_reason") or choice["logprobs"])


def _of_chat(found: Sequence[Piece], most: int) -> Piece:
    """As in a chat: ``{"content": [{token, bytes, logprob, top_logprobs}]}``."""

    def told(entry: Piece) -> Piece:
        return {key: entry[key] for key in ("token", "bytes", "logprob")}

    content = [
        {**told(entry), "top_logprobs": [told(one) for one in entry["top_logprobs"][:most]]} for entry in found
    ]
    return {"content": content, "refusal": None}


def _of_completion(found: Sequence[Piece], most: int, offset: int) -> Piece:
    """As in a completion: parallel lists, with offsets in characters into the text of the choice."""
    offsets = []
    for entry in found:
        offsets.append(offset)
        offset += len(entry["token"])
    return {
        "tokens": [entry["token"] for entry in found],
        "token_logprobs": [entry["logprob"] for entry in found],
        "top_logprobs": [_likeliest(entry, most) for entry in found] if most else None,
        "text_offset": offsets,
    }


def _likeliest(entry: Piece, most: int) -> dict[str, float]:
    """What was said is among them, whether it was likely or not."""
    return {one["token"]: one["logprob"] for one in [*entry["top_logprobs"][:most], entry]}


def _merge_tool_calls(calls: list[Piece], deltas: list[Piece]) -> None:
    for delta in deltas:
        index = delta.get("index", 0)
        while len(calls) <= index:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[index]
        call["id"] = delta.get("id") or call["id"]
        call["type"] = delta.get("type") or call["type"]
        function = delta.get("function") or {}
        for key in ("name", "arguments"):
            call["function"][key] += function.get(key) or ""

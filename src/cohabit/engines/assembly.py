"""A plain answer out of streamed pieces, and pieces as OpenAI would send them.

Shapes: OpenAI's ``chat.completion.chunk`` -> ``chat.completion`` and ``text_completion`` pieces -> whole.
"""

import time
from typing import Any

Piece = dict[str, Any]

_FOREIGN = ("timings", "__verbose", "usage", "prompt_progress")  # what llama.cpp adds


class Assembly:
    """Collects one answer, whatever its number of choices."""

    def __init__(self, model: str, *, chat: bool) -> None:
        """``model`` is what the answer names."""
        self.tokens = 0  # pieces with something generated in them
        self._model = model
        self._chat = chat
        self._head: Piece = {}
        self._choices: dict[int, Piece] = {}
        self._usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    def add(self, piece: Piece) -> Piece | None:
        """Take a piece in; returns it as OpenAI would send it, None if it would not."""
        self._note_usage(piece)
        progress = "prompt_progress" in piece
        piece = {key: value for key, value in piece.items() if key not in _FOREIGN}
        piece["model"] = self._model
        if not self._head:
            self._head = {key: piece[key] for key in ("id", "created", "system_fingerprint") if key in piece}
        if progress or not piece.get("choices"):
            return None  # the prompt is still being read, or it is the usage, which goes out once at the end
        for choice in piece["choices"]:
            delta = choice.get("delta")
            if delta and delta.get("content", "") is None:
                delta["content"] = ""  # as OpenAI's first chunk
            self._collect(choice)
        self.tokens += self.tokens_of(piece)
        return piece

    def tokens_of(self, piece: Piece) -> int:
        """How much was generated for a piece: one for every choice with content in it."""
        return sum(1 for choice in piece["choices"] if _generated(choice))

    def whole(self) -> Piece:
        """The plain answer."""
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
        # One for all choices of a chat; for completions one for every choice.
        for key, count in (piece.get("usage") or {}).items():
            if isinstance(count, int):
                self._usage[key] = self._usage.get(key, 0) + count

    def _collect(self, choice: Piece) -> None:
        index = choice.get("index", 0)
        kept = self._choices.setdefault(index, self._empty(index))
        if choice.get("finish_reason") is not None:
            kept["finish_reason"] = choice["finish_reason"]
        logprobs = (choice.get("logprobs") or {}).get("content")
        if logprobs:
            kept["logprobs"] = kept["logprobs"] or {"content": []}
            kept["logprobs"]["content"] += logprobs
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

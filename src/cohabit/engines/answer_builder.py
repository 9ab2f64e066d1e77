"""Answers in OpenAI's shapes, for engines whose library does not make them itself.

Shapes: ``chat.completion``, ``chat.completion.chunk`` and ``text_completion``.
"""

import time
from typing import Any

import msgspec

from cohabit.protocol.engine import EngineRequest
from cohabit.protocol.tasks import Task


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class AnswerBuilder:
    """One answer, whole or in pieces that share their id."""

    def __init__(self, model: str, request: EngineRequest) -> None:
        """To a request of the task chat, describe or complete."""
        self._chat = request.task is not Task.COMPLETE
        self._head = {"id": f"{model}-{request.id}", "created": int(time.time()), "model": model}

    def whole(self, text: str, finish: str, used: dict[str, int], **more: Any) -> bytes:
        """The plain answer. ``more`` stands beside what OpenAI defines."""
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, "finish_reason": finish, "logprobs": None, **said}
        kind = "chat.completion" if self._chat else "text_completion"
        return msgspec.json.encode({**self._head, "object": kind, "choices": [choice], "usage": used, **more})

    def piece(self, text: str | None, finish: str | None = None) -> bytes:
        """A part of a streamed one; the last has no text and says how it ended."""
        said: dict[str, Any]
        if self._chat:
            said = {"delta": {} if text is None else {"role": "assistant", "content": text}}
        else:
            said = {"text": text or ""}
        return self._framed([{"index": 0, "finish_reason": finish, "logprobs": None, **said}])

    def usage_piece(self, used: dict[str, int]) -> bytes:
        """What OpenAI sends last if ``include_usage`` was asked for."""
        return self._framed([], usage=used)

    def _framed(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return msgspec.json.encode({**self._head, "object": kind, "choices": choices, **more})


def wants_usage(body: dict[str, Any]) -> bool:
    """Whether a streamed answer is to end with its usage."""
    return bool((body.get("stream_options") or {}).get("include_usage"))

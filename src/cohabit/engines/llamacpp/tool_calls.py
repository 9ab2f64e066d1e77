"""Tools for templates that know none, and calls that must be made: told in words, held to by a grammar, read back.

llama.cpp leaves tools out in silence where a model's template has no place for them, and takes ``tool_choice``
for a wish. Only what a template knows and nobody insists on is left to it.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cohabit.engines.llamacpp.grammars import opening

Piece = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a chat may call."""

    functions: tuple[Piece, ...]  # OpenAI's ``function`` objects
    forced: bool  # one of them must be called

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Offer | None":
        """None where nothing may be called."""
        choice = body.get("tool_choice") or "auto"
        functions = tuple(tool["function"] for tool in body.get("tools") or [])
        if not functions or choice == "none":
            return None
        if isinstance(choice, dict):
            named = choice["function"]["name"]
            functions = tuple(function for function in functions if function["name"] == named)
        return cls(functions, forced=choice != "auto")


def plain_turns(messages: Sequence[Piece], offer: Offer | None) -> list[Piece]:
    """A conversation in plain turns: what may be called, what was called and what came back, as text."""
    turns: list[Piece] = []
    for message in messages:
        if message.get("tool_calls"):
            functions = [call["function"] for call in message["tool_calls"]]
            calls = [opening(function["name"]) + function["arguments"] + "}" for function in functions]
            turns.append({"role": "assistant", "content": "\n".join([*_texts(message), *calls])})
        elif message["role"] == "tool":
            result = "\n".join(["The function answered:", *_texts(message)])
            if turns and turns[-1].get("answered"):  # most templates want users and assistants to take turns
                turns[-1]["content"] += f"\n{result}"
            else:
                turns.append({"role": "user", "content": result, "answered": True})
        else:
            turns.append(message)
    turns = [{key: value for key, value in turn.items() if key != "answered"} for turn in turns]
    if offer is None:
        return turns
    if turns and turns[0]["role"] == "system":
        system, turns = _texts(turns[0]), turns[1:]
    else:
        system = []
    return [{"role": "system", "content": "\n\n".join([*system, _instruction(offer)])}, *turns]


def _instruction(offer: Offer) -> str:
    functions = "\n".join(json.dumps(function) for function in offer.functions)
    when = "Call one of these functions:" if offer.forced else "You can call these functions:"
    how = 'To call one, answer with nothing but {"name": its name, "arguments": {its arguments}}.'
    return f"{when}\n{functions}\n{how}"


def _texts(message: Piece) -> list[str]:
    content = message.get("content") or []
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]


class ToolCallReader:
    """Turns the text of one choice into what OpenAI sends of it: calls where it calls, else the text itself."""

    def __init__(self, offer: Offer) -> None:
        """``offer`` made the grammar which the text is held to."""
        self._openings = {opening(function["name"]): function["name"] for function in offer.functions}
        self._held = ""  # not yet known to be this or that
        self._arguments: str | None = None  # of a call that has begun
        self._text = False

    def read(self, choice: Piece) -> None:
        """Changes a piece's choice in place."""
        delta = choice.setdefault("delta", {})
        self._held += delta.pop("content", None) or ""
        finish = choice.get("finish_reason")
        if self._arguments is None and not self._text:
            self._decide(delta, ended=finish is not None)
        if self._text and self._held:
            delta["content"], self._held = self._held, ""
        elif self._arguments is not None:
            self._go_on(choice, delta, finish)

    def _decide(self, delta: Piece, *, ended: bool) -> None:
        for begin, name in self._openings.items():
            if self._held.startswith(begin):
                self._held, self._arguments = self._held.removeprefix(begin), ""
                function = {"name": name, "arguments": ""}
                call = {"index": 0, "id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
                delta["tool_calls"] = [call]
                return
        self._text = ended or not any(begin.startswith(self._held) for begin in self._openings)

    def _go_on(self, choice: Piece, delta: Piece, finish: str | None) -> None:
        said, self._held = self._held[:-1], self._held[-1:]  # the last brace closes the call, not its arguments
        if finish is not None and not _whole(f"{self._arguments}{said}"):
            said += self._held  # cut off before its end
        elif finish is not None:
            choice["finish_reason"] = "tool_calls"
        self._arguments = f"{self._arguments}{said}"
        if said:
            calls = delta.setdefault("tool_calls", [{"index": 0, "function": {"arguments": ""}}])
            calls[0]["function"]["arguments"] += said


def _whole(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True

"""What a client asks, as llama.cpp must be asked so that it does it; what it cannot do is refused."""

from collections.abc import Callable, Mapping
from typing import Any

from cohabit.engines.llamacpp import gbnf, grammars
from cohabit.engines.llamacpp.aggregate import Aggregate
from cohabit.engines.llamacpp.tool_calls import Offer, plain_turns
from cohabit.engines.per_item import BadItem

Body = dict[str, Any]

TOKENS = 16  # of a completion that does not say how many, as at OpenAI; a chat goes on until it has ended


class RequestTranslator:
    """Knows the model's bounds and its template."""

    def __init__(self, model: str, *, choices: int, knows_tools: bool, usable: Callable[[str], bool]) -> None:
        """``choices`` is the most one request may ask for; ``usable`` tells whether a grammar can be used."""
        self._model = model
        self._choices = choices
        self._knows_tools = knows_tools
        self._usable = usable

    def chat(self, body: Body) -> tuple[Body, Aggregate]:
        """For ``/v1/chat/completions``. Raises BadItem."""
        offer, logprobs = Offer.of(body), None
        asked = {**self._common(body), "messages": [_spoken(message) for message in body["messages"]]}
        if body.get("logprobs"):
            if offer is not None:
                raise BadItem("logprobs cannot be given where tools may be called; leave one out", param="logprobs")
            logprobs = body.get("top_logprobs") or 0
            asked["top_logprobs"] = max(1, logprobs)  # with 0 llama.cpp gives none at all
        read = self._constrain(asked, offer)
        return asked, Aggregate(
            self._model, chat=True, choices=body.get("n") or 1, logprobs=logprobs, offer=offer if read else None
        )

    def complete(self, body: Body) -> tuple[Body, Aggregate]:
        """For ``/v1/completions``. Raises BadItem."""
        logprobs, prompt = body.get("logprobs"), body["prompt"]
        asked = {**self._common(body), "max_tokens": body.get("max_tokens") or TOKENS}
        if prompt == "" or (isinstance(prompt, list) and "" in prompt):
            raise BadItem("the prompt is empty; send some text", param="prompt")
        if logprobs is not None:
            asked["logprobs"] = max(1, logprobs)
        echoed: list[str] = []
        if body.get("echo"):
            echoed = [prompt] if isinstance(prompt, str) else prompt
            if logprobs is not None:
                raise BadItem("there are no log probabilities of a prompt; leave out echo or logprobs", param="echo")
            if not all(isinstance(one, str) for one in echoed):
                raise BadItem("tokens cannot be echoed; send the prompt as text", param="echo")
        return asked, Aggregate(self._model, chat=False, choices=body.get("n") or 1, logprobs=logprobs, echoed=echoed)

    def _common(self, body: Mapping[str, Any]) -> Body:
        if (body.get("n") or 1) > self._choices:
            raise BadItem(f"n must be at most {self._choices}, the model's concurrency", param="n")
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
        if grammar := body.get("grammar"):
            try:
                asked["grammar"] = gbnf.converted(grammar)
            except gbnf.BadGrammar as bad:
                raise BadItem(f"grammar {bad}", param="grammar") from None
            if not self._usable(asked["grammar"]):
                raise BadItem("grammar cannot be held to; use simpler rules", param="grammar")
        if isinstance(seed := body.get("seed"), int):
            asked["seed"] = seed & 0x7FFF_FFFF  # it takes 32 bits, and all of them set for no seed
        return asked

    def _constrain(self, asked: Body, offer: Offer | None) -> bool:
        """Put tools and schemas into the prompt and the grammar; whether the text is to be read for calls."""
        form = asked.get("response_format") or {"type": "text"}
        if offer is not None and not offer.forced:
            if form["type"] != "text":
                raise BadItem(
                    "an answer cannot be of a given format where tools may be called; "
                    "leave out response_format, or set tool_choice to none or required",
                    param="response_format",
                )
            if self._knows_tools:
                return False
        if not self._knows_tools:
            asked["messages"] = plain_turns(asked["messages"], offer)
            for field in ("tools", "tool_choice", "parallel_tool_calls"):
                asked.pop(field, None)
        elif asked.get("tools"):
            asked["tool_choice"] = "none"  # it still puts them into the prompt
        if offer is not None:
            grammar, param = grammars.of_calls(offer.functions, forced=offer.forced), "tools"
        elif (wanted := _schema(form)) is not None:
            strict = bool((form.get("json_schema") or {}).get("strict"))
            grammar, param = grammars.of_answer(wanted, strict=strict), "response_format"
        else:
            return False
        if asked.get("grammar"):
            raise BadItem(f"{param} brings a grammar of its own; leave out one", param="grammar")
        if not self._usable(grammar):
            message = "the JSON schema cannot be held to; use simpler keywords and patterns, and references within it"
            raise BadItem(message, param=param)
        asked.pop("response_format", None)
        asked["grammar"] = grammar
        # It is held to from the first token on, so there is nothing to think before and nothing to look for.
        asked["chat_template_kwargs"] = {"enable_thinking": False, **(asked.get("chat_template_kwargs") or {})}
        asked["reasoning_format"] = "none"
        return offer is not None


def _schema(form: Body) -> Body | None:
    """OpenAI's, or what llama.cpp takes beside ``json_object``."""
    schema = form["json_schema"].get("schema") or {} if form["type"] == "json_schema" else form.get("schema")
    return schema if isinstance(schema, dict) else None


def _spoken(message: Body) -> Body:
    """A turn in the words that every template has."""
    role = "system" if message["role"] == "developer" else message["role"]
    content = message.get("content")
    if isinstance(content, list):
        content = [
            {"type": "text", "text": part["refusal"]} if part["type"] == "refusal" else part for part in content
        ]
    return {**message, "role": role, "content": content}

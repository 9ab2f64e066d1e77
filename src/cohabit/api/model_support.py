"""What a request asks of its model: refused if the model cannot do it, with a warning if the model ignores it."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from cohabit.api.errors import BadRequest
from cohabit.protocol.tasks import Capability, Task
from cohabit.runtime.service import ModelInfo, Service
from cohabit.schemas.chat import ChatRequest, CompletionRequest, NamedTool, Sampling, TextFormat

_SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "seed")


def require(
    service: Service, info: ModelInfo, task: Task, needed: Mapping[str, Capability], prefix: str = ""
) -> None:
    """Raises BadRequest for the first field that asks for what the model cannot do, naming those that can.

    ``needed`` has an ability by the field that asks for it; ``prefix`` goes before the field's name.
    """
    for field, ability in needed.items():
        if ability in info.capabilities:
            continue
        able = [
            other.name for other in service.models.values() if task in other.tasks and ability in other.capabilities
        ]
        can = f"models that can: {', '.join(able)}" if able else "no configured model can"
        raise BadRequest(
            f"{info.name} cannot {ability}; {can}", param=f"{prefix}{field}", code="unsupported_parameter"
        )


def check(
    service: Service,
    info: ModelInfo,
    task: Task,
    body: Sampling,
    without_effect: Sequence[str] = (),
    *,
    prefix: str = "",
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> str | None:
    """Raises BadRequest for what would make another answer; returns what the client should know was ignored.

    ``without_effect`` are fields of it that have no effect; ``prefix`` goes before a field's name; ``renamed`` has
    the client's own names of a chat's fields.
    """
    if isinstance(body, ChatRequest):
        _check_chat(body, prefix)
    needed = {renamed.get(field, field): capability for field, capability in _needed(body)}
    require(service, info, task, needed, prefix)
    sampling = [] if Capability.SAMPLING in info.capabilities else [name for name in _SAMPLING if _sent(body, name)]
    names = [*sampling, *without_effect]
    return f"{info.name} ignores {', '.join(names)}" if names else None


def _sent(body: Sampling, name: str) -> bool:
    return getattr(body, name) is not None


def _needed(body: Sampling) -> Iterator[tuple[str, Capability]]:
    if (body.n or 1) > 1:
        yield "n", Capability.CHOICES
    if body.stop:
        yield "stop", Capability.STOP
    match body:
        case ChatRequest():
            if body.tools and body.tool_choice != "none":
                yield "tools", Capability.TOOLS
            if body.response_format is not None and not isinstance(body.response_format, TextFormat):
                yield "response_format", Capability.SCHEMA
            if body.logprobs:
                yield "logprobs", Capability.LOGPROBS
        case CompletionRequest():
            if body.logprobs is not None:
                yield "logprobs", Capability.LOGPROBS
            if body.echo:
                yield "echo", Capability.ECHO
            if body.suffix:
                yield "suffix", Capability.INFILL
            if (body.best_of or 1) > (body.n or 1):
                yield "best_of", Capability.BEST_OF


def _check_chat(body: ChatRequest, prefix: str) -> None:
    if body.modalities not in (None, ["text"]):
        message = 'chats are answered in text; set modalities to ["text"] or leave it out'
        raise BadRequest(message, param=f"{prefix}modalities", code="unsupported_parameter")
    if body.top_logprobs is not None and not body.logprobs:
        raise BadRequest("top_logprobs needs logprobs to be true", param=f"{prefix}top_logprobs")
    for turn, entry in enumerate(body.messages):
        if entry.role == "tool" and entry.tool_call_id is None:
            place = f"{prefix}messages.{turn}.tool_call_id"
            raise BadRequest(f"{place} is missing; it says which call this answers", param=place)
    _check_tools(body, prefix)


def _check_tools(body: ChatRequest, prefix: str) -> None:
    for place, tool in enumerate(body.tools or []):
        if (tool.function.parameters or {}).get("type", "object") != "object":
            param = f"{prefix}tools.{place}.function.parameters"
            raise BadRequest(f'{param} must be a JSON schema of the type "object"', param=param)
    choice, param = body.tool_choice, f"{prefix}tool_choice"
    if choice is None or choice in ("none", "auto"):
        return
    if not body.tools:
        raise BadRequest(f"{param} needs tools", param=param)
    if isinstance(choice, NamedTool) and choice.function.name not in {tool.function.name for tool in body.tools}:
        raise BadRequest(f"{param} names no function of tools", param=param)

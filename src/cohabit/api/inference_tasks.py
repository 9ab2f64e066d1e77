"""One piece of work in ``/inference``'s words: understood, turned into OpenAI's, its answer turned back."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import msgspec

from cohabit.api import model_support
from cohabit.api.bodies import check_size, decoded, parsed
from cohabit.api.errors import BadRequest
from cohabit.api.fields import F, Raws, Split, ValidatedBody, apart, split, validate, warnings
from cohabit.api.media.media_inputs import Media, check_pictures, put_pictures
from cohabit.api.routes import speech
from cohabit.api.routes.models import choose
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import ModelInfo
from cohabit.schemas.chat import ChatRequest
from cohabit.schemas.embedding import EmbeddingRequest
from cohabit.schemas.inference import (
    ChatData,
    DescribeData,
    EmbedData,
    InferenceRequest,
    Kind,
    SpeakData,
    TranscribeData,
)
from cohabit.schemas.speech import SpeechRequest
from cohabit.schemas.transcription import TranscriptionRequest

_LOOK = "Describe this picture."
_WAV_SIZES = (4, 40)  # where a wav file says how long it is (RIFF, with a plain header of 44 bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Ready to be queued. ``result`` makes of the engine's whole answer what the client is given."""

    model: str
    task: Task
    body: bytes
    result: Callable[[bytes], dict[str, Any]]
    blobs: dict[str, bytes] = field(default_factory=dict)
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of work as it was asked; of its data nothing is decoded yet."""

    kind: Kind
    data: msgspec.Raw
    model: str | None
    others: Raws  # fields beside the data that are not known here
    countless: bool

    async def validated(self, kind: type[F]) -> ValidatedBody[F]:
        """The data. Raises BadRequest."""
        return await apart(len(bytes(self.data)), lambda: validate(kind, split(self.data, kind), "data."))

    def chosen(self, validated: ValidatedBody[F], info: ModelInfo, task: Task) -> str | None:
        """Drops what neither the route nor the engine knows. Returns the warning. Raises BadRequest."""
        validated.choose(info, task, "data.")
        validated.dropped = [*self.others, *validated.dropped]
        validated.countless |= self.countless
        return validated.warning


def item_of(raw: bytes | msgspec.Raw, kind: str | None = None) -> Item:
    """What a body asks for; with ``kind`` it is the data alone. Raises BadRequest."""
    if kind is not None:
        fields = Split({"data": msgspec.Raw(raw)}, {}, False, len(bytes(raw)))
    else:
        fields = split(raw, InferenceRequest)
    plain = {name: decoded(bytes(value)) for name, value in fields.known.items() if name != "data"}
    if "data" in fields.known:
        data = bytes(fields.known["data"])
        plain["data"] = {} if data.lstrip().startswith(b"{") else decoded(data)
    if kind is not None:
        plain["type"] = kind
        if not isinstance(plain["data"], dict):
            raise BadRequest("the body must be a JSON object")
    request = parsed(InferenceRequest, plain)
    return Item(request.type, fields.known["data"], request.model, fields.others, fields.countless)


async def prepare(media: Media, item: Item) -> Work:
    """Everything checked that can be before it runs. Raises ApiError."""
    return await _KINDS[item.kind](media, item)


async def _chat(media: Media, item: Item) -> Work:
    validated, text = await apart(len(bytes(item.data)), lambda: _conversation(item))
    typed = validated.body
    sees = item.model is None and any(typed.pictures())
    info = choose(media.service, item.model, Task.DESCRIBE if sees else Task.CHAT)
    dropped = item.chosen(validated, info, Task.CHAT)
    check_size(validated.text_bytes, text, info.max_text)
    if (typed.n or 1) > 1:
        raise BadRequest("data.n must be 1: there is one answer here", param="data.n")
    warning = model_support.check(media.service, info, Task.CHAT, typed, validated.without_effect, prefix="data.")
    pictures = [(f"data.{place}", url) for place, url in typed.pictures()]
    put_pictures({"data": validated.plain}, await check_pictures(media, info, pictures, "data.messages"))
    validated.plain["model"] = info.name
    return Work(
        model=info.name,
        task=Task.CHAT,
        body=await validated.sent(),
        result=_chat_result,
        warning=warnings(warning, dropped),
    )


def _conversation(item: Item) -> tuple[ValidatedBody[ChatRequest], str]:
    """A chat's fields, and the name of that which holds the text. Raises BadRequest."""
    fields = split(item.data, ChatRequest, "prompt")
    short = {name: decoded(bytes(fields.known[name])) for name in ("prompt", "stream") if name in fields.known}
    prompt = parsed(ChatData, short, prefix="data.").prompt
    if (prompt is None) == (bytes(fields.known.get("messages", b"null")) == b"null"):
        raise BadRequest("data needs either prompt or messages", param="data")
    known = {name: raw for name, raw in fields.known.items() if name != "prompt"}
    known["model"] = msgspec.Raw(msgspec.json.encode(item.model or "-"))
    if prompt is not None:
        known["messages"] = msgspec.Raw(msgspec.json.encode([{"role": "user", "content": prompt}]))
    validated = validate(ChatRequest, replace(fields, known=known), "data.")
    return validated, "data.messages" if prompt is None else "data.prompt"


async def _describe(media: Media, item: Item) -> Work:
    validated = await item.validated(DescribeData)
    data = validated.body
    info = choose(media.service, item.model, Task.DESCRIBE)
    warning = item.chosen(validated, info, Task.DESCRIBE)
    prompt = data.prompt or _LOOK
    check_size(len(prompt.encode()), "data.prompt")
    url = await media.picture(data.image, info.longest_picture, "data.image")
    parts = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": info.name, "messages": [{"role": "user", "content": parts}], **validated.parameters}
    return Work(
        model=info.name,
        task=Task.DESCRIBE,
        body=msgspec.json.encode(body),
        result=_describe_result,
        warning=warning,
    )


async def _embed(media: Media, item: Item) -> Work:
    validated = await item.validated(EmbedData)
    data = validated.body
    if (data.text is None) == (data.texts is None):
        raise BadRequest("data needs either text or texts", param="data")
    info = choose(media.service, item.model, Task.EMBED)
    warning = item.chosen(validated, info, Task.EMBED)
    body = {"model": info.name, "input": data.text or data.texts}
    typed = parsed(EmbeddingRequest, body, prefix="data.")
    check_size(typed.text_bytes(), "data.text" if data.text else "data.texts")
    return Work(
        model=info.name,
        task=Task.EMBED,
        body=msgspec.json.encode({**body, **validated.parameters}),
        result=_embed_result,
        warning=warning,
    )


async def _speak(media: Media, item: Item) -> Work:
    validated = await item.validated(SpeakData)
    data = validated.body
    info = choose(media.service, item.model, Task.SPEAK)
    dropped = item.chosen(validated, info, Task.SPEAK)
    wanted = {"input": data.text, "voice": data.voice, "speed": data.speed}
    given = {name: value for name, value in wanted.items() if value is not None}
    typed = parsed(SpeechRequest, {"model": info.name, "response_format": "wav", **given}, prefix="data.")
    info, fields, warning = speech.prepare(media.service, typed, prefix="data.", text="text")
    rate = speech.speech_of(info).rate
    return Work(
        model=info.name,
        task=Task.SPEAK,
        body=msgspec.json.encode({**fields, **validated.parameters}),
        result=lambda sound: {"audio": base64.b64encode(_measured(sound)).decode(), "sample_rate": rate},
        warning=warnings(warning, dropped),
    )


async def _transcribe(media: Media, item: Item) -> Work:
    validated = await item.validated(TranscribeData)
    data = validated.body
    info = choose(media.service, item.model, Task.TRANSCRIBE)
    warning = item.chosen(validated, info, Task.TRANSCRIBE)
    fields = {"language": data.language, "prompt": data.prompt}
    given = {name: value for name, value in fields.items() if value is not None}
    typed = parsed(TranscriptionRequest, {"model": info.name, **given}, prefix="data.")
    sound = await media.sound(data.audio, "data.audio")
    return Work(
        model=info.name,
        task=Task.TRANSCRIBE,
        body=msgspec.json.encode({**typed.engine_parameters(), **validated.parameters}),
        blobs={"file": sound},
        result=lambda raw: {"text": msgspec.json.decode(raw)["text"]},
        warning=warning,
    )


_KINDS: Mapping[str, Callable[[Media, Item], Awaitable[Work]]] = MappingProxyType(
    {"chat": _chat, "describe_image": _describe, "embed": _embed, "speak": _speak, "transcribe": _transcribe}
)


def _chat_result(raw: bytes) -> dict[str, Any]:
    answer = msgspec.json.decode(raw)
    choice = answer["choices"][0]
    asked_for = {"tool_calls": choice["message"].get("tool_calls"), "logprobs": choice.get("logprobs")}
    return {
        "text": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "usage": answer["usage"],
        **{key: value for key, value in asked_for.items() if value},
    }


def _describe_result(raw: bytes) -> dict[str, Any]:
    """``findings`` is what our own engine adds; a language model that sees has none."""
    answer = msgspec.json.decode(raw)
    findings = answer.get("findings") or [{}]
    return {"text": answer["choices"][0]["message"]["content"], "findings": findings[0]}


def _embed_result(raw: bytes) -> dict[str, Any]:
    return {"embeddings": [entry["embedding"] for entry in msgspec.json.decode(raw)["data"]]}


def _measured(sound: bytes) -> bytes:
    """A wav file that was made to be streamed, now that its length is known."""
    whole = bytearray(sound)
    for place in _WAV_SIZES:
        whole[place : place + 4] = (len(sound) - place - 4).to_bytes(4, "little")
    return bytes(whole)

"""What models are measured by would pass the door, and is as large as it is said to be."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cohabit.config.load import load_config, parse_config
from cohabit.engines.audio_decode import windows
from cohabit.inspector.pieces import cleaned
from cohabit.media import decode_data_url
from cohabit.media.images import load
from cohabit.protocol.inspection import Piece
from cohabit.protocol.tasks import Task
from cohabit.runtime.calibration import SECONDS, batches
from cohabit.runtime.requests import ModelRequest
from cohabit.schemas.chat import ChatRequest
from cohabit.schemas.embedding import EmbeddingRequest
from cohabit.schemas.speech import SpeechRequest
from cohabit.schemas.transcription import TranscriptionRequest


async def inspect(piece: Piece) -> bytes:
    """In this process."""
    return cleaned(piece, lambda _seconds: None)


SHAPES: dict[Task, type[msgspec.Struct]] = {
    Task.CHAT: ChatRequest,
    Task.DESCRIBE: ChatRequest,
    Task.EMBED: EmbeddingRequest,
    Task.SPEAK: SpeechRequest,
    Task.TRANSCRIBE: TranscriptionRequest,
}


async def test_every_model_of_the_preset_has_some_and_all_are_well_formed() -> None:
    config = load_config("embedded")
    tasks = []
    for name in config.models:
        found = await batches(config, name, inspect)
        assert found
        for call in (call for batch in found for call in batch):
            msgspec.json.decode(call.body, type=SHAPES[call.task])
            assert call.model == name
        tasks.append(found[0][0].task)
    assert set(tasks) == set(SHAPES)


async def test_as_many_at_once_as_the_engine_is_ever_given() -> None:
    config = load_config("embedded")
    assert [len(batch) for batch in await batches(config, "llm", inspect)] == [1, 1, 1, 1], "it batches by itself"
    assert [len(batch) for batch in await batches(config, "embeddings", inspect)] == [8]


async def test_texts_fill_the_context() -> None:
    made = parse_config("models: {a: {engine: fake, options: {context: 100}}}", Path("/"))
    calls = {batch[0].task: batch[0] for batch in await batches(made, "a", inspect)}
    assert len(body(calls[Task.CHAT])["messages"][0]["content"].split()) == 90
    texts = body(calls[Task.EMBED])["input"]
    assert {len(text.split()) for text in texts} == {98}, "and a token at either end"


def body(call: ModelRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call.body)
    return found


async def test_the_picture_is_as_large_as_the_engine_can_use() -> None:
    (describe,) = [batch[0] for batch in await batches(load_config("embedded"), "vision", inspect)]
    (message,) = json.loads(describe.body)["messages"]
    drawn, size = load(decode_data_url(message["content"][1]["image_url"]["url"]))
    assert (drawn.size, size) == ((960, 960), (2048, 2048))
    assert drawn.convert("L").getextrema() == (0, 255)


@pytest.mark.model
async def test_the_sound_is_heard_as_speech() -> None:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    ((call,),) = await batches(load_config("embedded"), "stt", inspect)
    samples = np.concatenate([part for _, part in windows(call.blobs["file"])])
    assert len(samples) == SECONDS * 16_000
    spoken = get_speech_timestamps(samples, VadOptions())
    assert sum(part["end"] - part["start"] for part in spoken) > 0.9 * len(samples)

"""What models are measured by would pass the door, and is as large as it is said to be."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from cohabit.config.load import load_config, parse_config
from cohabit.media.data_url import decode
from cohabit.media.pictures import MOST_PIXELS, examine
from cohabit.media.sound import opened
from cohabit.openai.chat import ChatRequest
from cohabit.openai.embedding import EmbeddingRequest
from cohabit.openai.speech import SpeechRequest
from cohabit.openai.transcription import TranscriptionRequest
from cohabit.protocol.tasks import Task
from cohabit.runtime.exercises import SECONDS, babble, batches, page
from cohabit.runtime.requests import Call

SHAPES: dict[Task, type[BaseModel]] = {
    Task.CHAT: ChatRequest,
    Task.DESCRIBE: ChatRequest,
    Task.EMBED: EmbeddingRequest,
    Task.SPEAK: SpeechRequest,
    Task.TRANSCRIBE: TranscriptionRequest,
}


def test_every_model_of_the_preset_has_some_and_all_are_well_formed() -> None:
    config = load_config("embedded")
    tasks = []
    for name in config.models:
        found = batches(config, name)
        assert found
        for call in (call for batch in found for call in batch):
            SHAPES[call.task].model_validate_json(call.body)
            assert call.model == name
        tasks.append(found[0][0].task)
    assert set(tasks) == set(SHAPES)


def test_as_many_at_once_as_the_engine_is_ever_given() -> None:
    config = load_config("embedded")
    assert [len(batch) for batch in batches(config, "llm")] == [1, 1, 1, 1], "it batches by itself"
    assert [len(batch) for batch in batches(config, "embeddings")] == [8]


def test_texts_fill_the_context() -> None:
    made = parse_config("models: {a: {engine: fake, options: {context: 100}}}", Path("/"))
    calls = {batch[0].task: batch[0] for batch in batches(made, "a")}
    assert len(body(calls[Task.CHAT])["messages"][0]["content"].split()) == 90
    texts = body(calls[Task.EMBED])["input"]
    assert {len(text.split()) for text in texts} == {98}, "and a token at either end"


def body(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call.body)
    return found


def test_the_picture_is_the_largest_that_is_taken() -> None:
    (describe,) = (batch[0] for batch in batches(load_config("embedded"), "vision"))
    (message,) = json.loads(describe.body)["messages"]
    data = decode(message["content"][1]["image_url"]["url"])
    assert data == page()
    assert examine(data) == "image/png"
    from PIL import Image

    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width * picture.height == MOST_PIXELS


@pytest.mark.model
def test_the_sound_is_heard_as_speech() -> None:
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    with opened(babble()) as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    samples = np.concatenate(frames).astype(np.float32) / 2**15
    assert len(samples) == SECONDS * 16_000
    spoken = get_speech_timestamps(samples, VadOptions())
    assert sum(part["end"] - part["start"] for part in spoken) > 0.9 * len(samples)

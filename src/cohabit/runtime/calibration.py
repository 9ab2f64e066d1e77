"""Requests that make a model take what large ones take, with nothing of a user's in them.

Engines bound or preallocate what a run may take, so these reach the bounds and are no larger than that.
"""

import base64
import io
import json
import math
import wave
from array import array
from collections.abc import Awaitable, Callable, Iterator
from importlib.resources import files
from typing import Any

import msgspec

from cohabit.config import defaults
from cohabit.config.model import Config
from cohabit.engines.registry import engine_class
from cohabit.protocol.inspection import Picture, Piece, Sound
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest

Inspect = Callable[[Piece], Awaitable[bytes]]

LINE = "Of all the ships that left the harbour at dawn, only one came back before the storm had reached the coast."
PROMPT = 500  # words: several batches of a prompt, whose memory engines allocate for the whole context at load
EMBEDDED = 1024  # tokens in all texts of a request; of a batch together it is several runs
RATE = 16_000  # Hz
SECONDS = 40  # of sound: more than speech models hear at once


async def batches(config: Config, name: str, inspect: Inspect) -> list[list[ModelRequest]]:
    """Given to its worker all at once they are as much as it is ever given. None for tasks that have no example.

    ``inspect`` makes of a picture or sound what a worker may open.
    """
    model = config.models[name]
    engine = engine_class(model.engine)
    policy = defaults.model_policy(config, name)
    context = getattr(msgspec.convert(model.options, engine.Options), "context", None)
    picture = sound = b""
    if Task.DESCRIBE in engine.tasks:
        picture = await inspect(Picture(page(), engine.longest_picture))
    if Task.TRANSCRIBE in engine.tasks:
        sound = await inspect(Sound(babble()))
    calls = [
        ModelRequest(
            model=name,
            task=task,
            body=json.dumps({"model": name, **body}).encode(),
            client="measure",
            blobs={"file": sound} if task is Task.TRANSCRIBE else {},
        )
        for task, body in _bodies(engine.tasks, context, picture)
    ]
    if engine.continuous:
        return [[call] for call in calls for _ in range(policy.concurrency)]
    return [[call] * policy.max_batch for call in calls]


def _bodies(tasks: frozenset[Task], context: int | None, picture: bytes) -> Iterator[tuple[Task, dict[str, Any]]]:
    words = "w " * min(PROMPT, (context or PROMPT) * 9 // 10)
    if Task.DESCRIBE in tasks:
        url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        yield Task.DESCRIBE, {"messages": [{"role": "user", "content": parts}], "max_tokens": 8}
    elif Task.CHAT in tasks:
        yield Task.CHAT, {"messages": [{"role": "user", "content": words}], "max_tokens": 8}
    elif Task.COMPLETE in tasks:
        yield Task.COMPLETE, {"prompt": words, "max_tokens": 8}
    if Task.EMBED in tasks:
        length = context or 512
        text = "w " * (length - 2)  # a token each, and one at either end; token ids would have to be the tokenizer's
        yield Task.EMBED, {"input": [text] * max(1, EMBEDDED // length)}
    if Task.SPEAK in tasks:
        text = f"{LINE} {'word, word, ' * 60}. {LINE} {LINE}"
        yield Task.SPEAK, {"input": text, "voice": "default", "speed": 1.0, "response_format": "wav"}
    if Task.TRANSCRIBE in tasks:
        yield Task.TRANSCRIBE, {}


def page() -> bytes:
    """A picture full of text: 40 lines of LINE, black on white, 2048 pixels a side."""
    return (files("cohabit.runtime") / "page.png").read_bytes()


_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""Formants in Hz of a, i, u, e, o. Peterson and Barney, "Control methods used in a study of the vowels" (1952)."""
_SYLLABLE = RATE // 5


def babble() -> bytes:
    """A wav file of vowels, syllable by syllable: voiced enough not to be taken for silence."""
    samples = array("h")
    pulse = 0.0
    before = [(0.0, 0.0)] * 3
    filters: list[tuple[float, float, float]] = []
    for index in range(SECONDS * RATE):
        syllable, within = divmod(index, _SYLLABLE)
        if within == 0:
            filters = [_resonator(formant) for formant in _VOWELS[syllable % len(_VOWELS)]]
        pulse += 120 * (1 + 0.15 * math.sin(3.1 * index / RATE)) / RATE  # the voice rises and falls
        beat, pulse = divmod(pulse, 1.0)
        values = [gain * beat + a * y1 + b * y2 for (a, b, gain), (y1, y2) in zip(filters, before, strict=True)]
        before = [(value, y1) for value, (y1, _) in zip(values, before, strict=True)]
        samples.append(int(120_000 * sum(values) * math.sin(math.pi * within / _SYLLABLE)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(samples.tobytes())
    return file.getvalue()


def _resonator(formant: int) -> tuple[float, float, float]:
    """Coefficients of a two-pole filter 80 Hz wide, and its gain."""
    radius = math.exp(-math.pi * 80 / RATE)
    return 2 * radius * math.cos(2 * math.pi * formant / RATE), -radius * radius, 1 - radius

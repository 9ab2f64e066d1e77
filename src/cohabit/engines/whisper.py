"""The engine ``whisper``: speech to text by faster-whisper (CTranslate2).

Sound is heard in windows of half a minute, cut where it is quiet, so that an hour takes no more memory than that.
Answers are OpenAI's ``verbose_json``, whatever of it is shown, or with ``stream`` its events: a delta for each
segment as it is heard.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from cohabit.engines.audio_decode import RATE, windows
from cohabit.engines.per_item import BadItem, opening, singly
from cohabit.protocol.engine import Cancelled, Chunk, Count, Engine, EngineError, EngineRequest, Output
from cohabit.protocol.memory import give_back
from cohabit.protocol.spec import Device, Estimate, ModelSpec
from cohabit.protocol.tasks import Capability, Task

PROCESS_BYTES = 90 << 20  # Python with CTranslate2, onnxruntime (for the voice detector) and PyAV
REMEMBERED = 200  # characters of what was said that help to understand what follows


class WhisperOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options in the config."""

    threads: Count = 1
    compute_type: str = "default"  # CTranslate2's: int8, float16, int8_float16 ...; default: as stored
    beam_size: Count = 5
    vad: bool = True  # leave silence out, in which the model would hear things


@dataclass(slots=True)
class _Heard:
    """What became of one file so far."""

    language: str | None = None
    segments: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0  # of sound


class Unwanted(Exception):
    """Nobody waits for it any more."""


def always() -> bool:
    """Whether an answer is wanted that nobody can cancel."""
    return True


class _Decoder:
    """CTranslate2's model, which asks before each decoding whether its result is wanted.

    Where a window is hard to understand, the library decodes it up to six times before it gives anything of it.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.wanted: Callable[[], bool] = always

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, *arguments: Any, **settings: Any) -> Any:
        """As the model's. Raises Unwanted."""
        if not self.wanted():
            raise Unwanted
        return self._model.generate(*arguments, **settings)


class Whisper(Engine):
    """``source`` is a folder with a Whisper model in CTranslate2's form."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.TRANSCRIBE})
    Options: ClassVar[type[msgspec.Struct]] = WhisperOptions
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.TRANSLATE, Capability.WORD_TIMES})
    libraries: ClassVar[tuple[str, ...]] = ("faster_whisper", "numpy")
    imports: ClassVar[tuple[str, ...]] = libraries
    extra: ClassVar[str | None] = "whisper"

    @classmethod
    def estimate(cls, spec: ModelSpec, source_bytes: int) -> Estimate:
        """Weights are converted while they load; a window and its beams are what a run takes."""
        resident = PROCESS_BYTES + source_bytes
        return Estimate(idle=resident, load=resident + source_bytes, activation=(120 << 20) + source_bytes // 2)

    def load(self, spec: ModelSpec, device: Device) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise EngineError(f"{error.name} is missing: pip install 'cohabit[whisper]'") from None
        self._name = spec.name
        self._options = options = msgspec.convert(spec.options, WhisperOptions)
        for name in ("model.bin", "tokenizer.json"):  # without the latter the library would ask Hugging Face for one
            if not (Path(spec.source) / name).is_file():
                raise EngineError(f"there is no {name} in {spec.source}; a folder in CTranslate2's form is needed")
        try:
            self._model = WhisperModel(
                spec.source,
                device=device.kind,
                device_index=device.index,
                compute_type=options.compute_type,
                cpu_threads=options.threads,
                local_files_only=True,
            )
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"the model cannot be loaded: {error}") from None
        self._model.model = self._decoder = _Decoder(self._model.model)

    def warmup(self) -> None:
        """A second of nothing."""
        import numpy as np

        list(self._heard(np.zeros(16_000, np.float32), {}, vad_filter=False)[0])

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """One after the other."""
        return singly(batch, partial(self._answer, cancelled=cancelled), after=give_back)

    def close(self) -> None:
        del self._model, self._decoder

    def _answer(self, request: EngineRequest, cancelled: Cancelled) -> Iterator[Output]:
        body = json.loads(request.body)
        self._check(body)
        heard = _Heard()
        told = ""
        try:
            for segment in self._listen(request.blobs["file"], body, heard, lambda: not cancelled(request.id)):
                if body.get("stream") and (delta := segment["text"] if told else segment["text"].lstrip()):
                    told += delta
                    yield Chunk(request.id, msgspec.json.encode({"type": "transcript.text.delta", "delta": delta}))
        except Unwanted:
            return
        finally:
            self._decoder.wanted = always
        if cancelled(request.id):
            return
        if not heard.seconds:
            raise BadItem("file holds no sound that could be decoded", param="file")
        last = {"type": "transcript.text.done", "text": told} if body.get("stream") else _whole(heard, body)
        yield Chunk(request.id, msgspec.json.encode(last))

    def _check(self, body: dict[str, Any]) -> None:
        """Raises BadItem for what this model cannot do, though others of its kind can."""
        if body.get("task") == "translate" and not self._model.model.is_multilingual:
            raise BadItem(
                f"{self._name} hears English only and cannot translate; ask a multilingual Whisper model",
                param="model",
                code="unsupported_task",
            )
        language = body.get("language")
        if language is not None and language not in self._model.supported_languages:
            can = ", ".join(sorted(self._model.supported_languages))
            raise BadItem(f"this model hears {can} only; leave language out", param="language")

    def _listen(
        self, sound: bytes, body: dict[str, Any], heard: _Heard, wanted: Callable[[], bool]
    ) -> Iterator[dict[str, Any]]:
        """Segments in OpenAI's shape, each as it is heard and kept; asks ``wanted`` before each, and before each
        window, since hours of silence have no segment. Raises BadItem, Unwanted."""
        self._decoder.wanted = wanted
        for began, samples in _windows(sound):
            if not wanted():
                return
            heard.seconds = began + len(samples) / RATE
            # A window in which nothing was said tells nothing of the language.
            language = heard.language if heard.segments else body.get("language")
            hint = {"language": language, "initial_prompt": _hint(body, heard.segments)}
            found, info = self._heard(samples, body, **hint)
            heard.language = info.language
            for segment in found:
                if not wanted():
                    return
                heard.segments.append(_shaped(segment, began, len(heard.segments)))
                yield heard.segments[-1]

    def _heard(self, samples: Any, body: dict[str, Any], **more: Any) -> tuple[Any, Any]:
        settings = {"beam_size": self._options.beam_size, "vad_filter": self._options.vad, **more}
        if body.get("temperature"):  # 0 is the default: begin there, and go higher where the text is doubtful
            settings["temperature"] = body["temperature"]
        settings["task"] = body.get("task") or "transcribe"
        words = "word" in (body.get("timestamp_granularities") or [])
        found: tuple[Any, Any] = self._model.transcribe(samples, word_timestamps=words, **settings)
        return found


def _windows(data: bytes) -> Iterator[tuple[float, Any]]:
    with opening("file", "the sound"):
        yield from windows(data)


def _hint(body: dict[str, Any], segments: Sequence[dict[str, Any]]) -> str | None:
    """What the model is told was said before: by the client at first, then what it heard itself."""
    heard = "".join(segment["text"] for segment in segments[-4:])
    return heard[-REMEMBERED:] or body.get("prompt")


def _shaped(segment: Any, began: float, number: int) -> dict[str, Any]:
    """A segment as OpenAI has it, its times counted from the beginning of the sound."""
    shaped = {
        "id": number,
        "seek": round(began * 100) + segment.seek,
        "start": _at(began, segment.start),
        "end": _at(began, segment.end),
        "text": segment.text,
        "tokens": segment.tokens,
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }
    if segment.words is not None:
        shaped["words"] = [
            {"word": word.word.strip(), "start": _at(began, word.start), "end": _at(began, word.end)}
            for word in segment.words
        ]
    return shaped


def _at(began: float, seconds: float) -> float:
    """Seconds from the beginning of the sound; words have theirs as numpy's."""
    return round(float(began + seconds), 2)


def _whole(heard: _Heard, body: dict[str, Any]) -> dict[str, Any]:
    """``verbose_json``; words stand beside the segments. A translation's language is OpenAI's word for its own."""
    words = [word for segment in heard.segments for word in segment.pop("words", [])]
    translated = body.get("task") == "translate"
    whole = {
        "task": "translate" if translated else "transcribe",
        "language": "english" if translated else heard.language,
        "duration": round(heard.seconds, 2),
        "text": "".join(segment["text"] for segment in heard.segments).strip(),
        "segments": heard.segments,
    }
    return {**whole, "words": words} if words else whole

"""The engine ``hibari``: English speech by hibari-tts, whose one voice comes inside its package.

Sound goes out as it is made, sentence by sentence.
"""

import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from cohabit.engines.audio_encode import Encoder
from cohabit.engines.per_item import BadItem, singly
from cohabit.protocol.engine import Cancelled, Chunk, Engine, EngineError, EngineRequest, Output, Speech
from cohabit.protocol.spec import Device, Estimate, ModelSpec
from cohabit.protocol.tasks import Task

PROCESS_BYTES = 180 << 20  # Python with onnxruntime, the model and its pronouncing dictionaries
MAX_CHARACTERS = 500  # that are looked up at once: between two pieces a cancel is heard
LONGEST_WORD = 48  # characters without a space; looking one up takes time by the cube of its parts ("a-a-a-")
MAX_PHONEMES = 200  # in one run, which bounds its memory; hibari itself splits only at commas
RATE = 24_000  # Hz
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)")
UNSPEAKABLE = "input holds something that this voice cannot read, or nothing; it reads English"


class Hibari(Engine):
    """One thread; it is a hundred times faster than speech on one."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.SPEAK})
    libraries: ClassVar[tuple[str, ...]] = ("hibari", "onnxruntime", "numpy")
    imports: ClassVar[tuple[str, ...]] = ("hibari.dsp", "onnxruntime", "numpy")
    extra: ClassVar[str | None] = "hibari"
    needs_source: ClassVar[bool] = False
    speech: ClassVar[Speech | None] = Speech(RATE, slowest=0.5, fastest=2.0, voices=("default", "heart"))

    @classmethod
    def estimate(cls, spec: ModelSpec, source_bytes: int) -> Estimate:
        """The same for everybody: the weights are in the package."""
        return Estimate(idle=PROCESS_BYTES, load=PROCESS_BYTES, activation=80 << 20)

    def load(self, spec: ModelSpec, device: Device) -> None:
        """Open the model; on cuda too it runs on the host."""
        try:
            import hibari

            from cohabit.engines.onnx_session import open_session, shrinking
        except ImportError as error:
            raise EngineError(f"{error.name} is missing: pip install 'cohabit[hibari]'") from None
        host = Device("cpu")
        self._voice = hibari.Hibari(threads=1)
        del self._voice.sess  # its allocator keeps what the longest sentence took
        self._session = open_session(self._voice.model_path, threads=1, device=host)
        self._run_options = shrinking(host)

    def warmup(self) -> None:
        """A sentence loads the dictionaries."""
        for _ in self._sound("Hello, this is a first sentence.", 1.0, lambda: False):
            pass

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """One after the other."""
        return singly(batch, partial(self._answer, cancelled=cancelled))

    def close(self) -> None:
        del self._voice, self._session

    def _answer(self, request: EngineRequest, cancelled: Cancelled) -> Iterator[Output]:
        body = json.loads(request.body)
        encoder = Encoder(body["response_format"], RATE)
        spoken = False
        for samples in self._sound(body["input"], body.get("speed") or 1.0, lambda: cancelled(request.id)):
            spoken = True
            if data := encoder.feed(samples):
                yield Chunk(request.id, data)
        if cancelled(request.id):
            return
        if not spoken:
            raise BadItem(UNSPEAKABLE, param="input")
        if data := encoder.close():
            yield Chunk(request.id, data)

    def _sound(self, text: str, speed: float, unwanted: Callable[[], bool]) -> Iterator[Any]:
        """Samples (n,) float32 at RATE, a sentence or a part of one at a time, until they are unwanted.

        The same for the same text. Raises BadItem.
        """
        import numpy as np

        random = np.random.default_rng(0)  # of the breath in the voice
        for piece in self._pieces(text):
            if unwanted():
                return
            for phonemes in self._phonemes(piece):
                for part in textwrap.wrap(phonemes, MAX_PHONEMES):
                    ids = self._voice.ids(part)
                    if len(ids) > 2:  # besides the silence at both ends
                        yield self._synthesized(np.asarray([ids], np.int64), speed, random)
                    if unwanted():
                        return

    def _pieces(self, text: str) -> Iterator[str]:
        """Sentences, or parts of those that are very long."""
        for sentence in self._voice.split_sentences(_LONG_WORD.sub(r"\g<0> ", text)):
            yield from textwrap.wrap(sentence, MAX_CHARACTERS, break_on_hyphens=False)

    def _phonemes(self, sentence: str) -> list[str]:
        try:
            found: list[str] = self._voice.phonemize(sentence)
        except Exception:  # a number of a thousand digits, say: its rules end where no person would read on
            raise BadItem(UNSPEAKABLE, param="input") from None
        return found

    def _synthesized(self, ids: Any, speed: float, random: Any) -> Any:
        """What ``Hibari.from_ids`` does, on our session."""
        import numpy as np
        from hibari import dsp

        feeds = {"ids": ids, "speed": np.asarray([speed], np.float32)}
        outputs = self._session.run(None, feeds, self._run_options)
        return dsp.synth(*(output[0] for output in outputs), random)

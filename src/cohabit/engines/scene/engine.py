"""The engine ``scene``: what a picture shows and what is written on it, said in a sentence.

It is no language model: it labels the picture, reads its text, and says both the same way every time. The text of a
chat is not heeded; of its pictures, those of the last message that has any are described.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from cohabit.engines.answer_builder import AnswerBuilder, usage, wants_usage
from cohabit.engines.per_item import BadItem, opening, singly
from cohabit.engines.scene.classifier import Classifier
from cohabit.engines.scene.ocr import LONGEST, OcrReader
from cohabit.media import decode_data_url
from cohabit.media.images import load
from cohabit.protocol.engine import Cancelled, Chunk, Count, Derivation, Engine, EngineError, EngineRequest, Output
from cohabit.protocol.memory import give_back
from cohabit.protocol.spec import Device, Estimate, ModelSpec
from cohabit.protocol.tasks import Task

if TYPE_CHECKING:
    from PIL.Image import Image

PROCESS_BYTES = 130 << 20  # Python with onnxruntime, OpenCV and rapidocr's own models
SURE, LIKELY = 0.5, 0.2  # from which probability on a label is said without and with doubt


class SceneOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options in the config."""

    threads: Count = 1
    labels: int = 5  # how many are given in the findings
    text_score: float = 0.7  # lines that are less sure are left out; textured photos make some up


class Finding(msgspec.Struct):
    """What was found in one picture. Boxes have corners (x, y) in its own pixels, clockwise from the upper left."""

    width: int
    height: int
    labels: list[dict[str, Any]]
    text: list[dict[str, Any]]


class Scene(Engine):
    """OCR comes inside rapidocr (``source: bundled``); ``files`` has the classifier and its classes' names."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.DESCRIBE, Task.CHAT})
    Options: ClassVar[type[msgspec.Struct]] = SceneOptions
    libraries: ClassVar[tuple[str, ...]] = ("rapidocr", "onnxruntime", "numpy", "onnx")
    imports: ClassVar[tuple[str, ...]] = ("rapidocr", "cv2", "onnxruntime", "numpy", "PIL.Image")
    extra: ClassVar[str | None] = "scene"
    needs_source: ClassVar[bool] = False
    needs_picture: ClassVar[bool] = True
    longest_picture: ClassVar[int] = LONGEST

    @classmethod
    def derivations(cls, options: msgspec.Struct) -> Mapping[str, Derivation]:
        """A classifier that comes as torch's file."""
        del options
        return {"labels": Derivation(".pth", ".onnx", "cohabit.engines.scene.efficientnet_lite")}

    @classmethod
    def estimate(cls, spec: ModelSpec, source_bytes: int) -> Estimate:
        """The detector's activations are what is large, and bounded by its input's size."""
        resident = PROCESS_BYTES + source_bytes * 4 + (40 << 20)
        return Estimate(idle=resident, load=resident + (40 << 20), activation=280 << 20)

    def load(self, spec: ModelSpec, device: Device) -> None:
        """Open the models. On cuda the classifier runs on the card, the OCR on the host."""
        self._options = options = msgspec.convert(spec.options, SceneOptions)
        for role in ("labels", "names"):
            if role not in spec.files:
                raise EngineError(f"the model needs files: {{{role}: ...}}")
        self._name = spec.name
        try:
            self._labels = Classifier(
                spec.files["labels"], spec.files["names"], threads=options.threads, device=device
            )
            self._reader = OcrReader(threads=options.threads)
        except ImportError as error:
            raise EngineError(f"{error.name} is missing: pip install 'cohabit[scene]'") from None

    def warmup(self) -> None:
        """A picture with text, so that every model is loaded."""
        from PIL import Image, ImageDraw

        picture = Image.new("RGB", (320, 96), "white")
        ImageDraw.Draw(picture).text((20, 20), "warm up", fill="black", font_size=40)
        self._look(picture, picture.size, lambda: True)

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """One after the other."""
        return singly(batch, partial(self._answer, cancelled=cancelled), after=give_back)

    def close(self) -> None:
        del self._labels, self._reader

    def _answer(self, request: EngineRequest, cancelled: Cancelled) -> Iterator[Output]:
        body = json.loads(request.body)
        findings = []
        for url in pictures(body["messages"]):
            with opening("messages", "a picture"):
                picture, size = load(decode_data_url(url))
            findings.append(self._look(picture, size, lambda: not cancelled(request.id)))
        if cancelled(request.id):
            return
        if not findings:
            raise BadItem("there is no picture to describe; add an image_url part", param="messages")
        text = "\n".join(sentences(findings))
        answer = AnswerBuilder(self._name, request)
        nothing = usage(0, 0)  # there are no tokens here
        if not body.get("stream"):
            yield Chunk(request.id, answer.whole(text, "stop", nothing, findings=findings))
            return
        yield Chunk(request.id, answer.piece(text))
        yield Chunk(request.id, answer.piece(None, "stop"))
        if wants_usage(body):
            yield Chunk(request.id, answer.usage_piece(nothing))

    def _look(self, picture: "Image", size: tuple[int, int], wanted: Callable[[], bool]) -> Finding:
        labels = self._labels.of(picture, self._options.labels)
        across, down = size[0] / picture.width, size[1] / picture.height
        return Finding(
            *size,
            labels=[{"label": name, "score": round(score, 3)} for name, score in labels],
            text=[
                {
                    "text": line.text,
                    "score": round(line.score, 3),
                    "box": [[round(x * across), round(y * down)] for x, y in line.box],
                }
                for line in self._reader.lines(picture, wanted)
                if line.score >= self._options.text_score
            ],
        )


def pictures(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """URLs of the pictures in the last message that has any."""
    for message in reversed(messages):
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        if urls:
            return urls
    return []


def sentences(findings: Sequence[Finding]) -> list[str]:
    """One for each picture."""
    if len(findings) == 1:
        return [sentence(findings[0])]
    return [f"Picture {number}: {sentence(finding)}" for number, finding in enumerate(findings, start=1)]


def sentence(finding: Finding) -> str:
    """What it shows, then what is written on it."""
    likely = [label["label"] for label in finding.labels if label["score"] >= LIKELY]
    if likely and finding.labels[0]["score"] >= SURE:
        shown = f"This is most likely a picture of {likely[0]}."
    elif likely:
        shown = f"This may be a picture of {' or '.join(likely)}."
    else:
        shown = "What this picture shows was not recognised."
    lines = [f'"{line["text"]}"' for line in finding.text]
    if not lines:
        return f"{shown} There is no readable text."
    *first, last = lines
    return f"{shown} The text reads: {', '.join(first)}{' and ' if first else ''}{last}."

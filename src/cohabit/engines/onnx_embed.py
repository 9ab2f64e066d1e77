"""The engine ``onnx-embed``: sentence embeddings of BERT-like ONNX models, on ONNX Runtime and tokenizers.

Texts of all requests of a batch are sorted by length and cut into runs of at most ``max_batch_tokens`` padded
tokens, and the allocator gives back what a run took: so the memory of a run is bounded whatever is sent.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from cohabit.engines.per_item import BadItem
from cohabit.protocol.engine import Cancelled, Chunk, Count, Engine, EngineError, EngineRequest, Output
from cohabit.protocol.spec import Device, Estimate, ModelSpec
from cohabit.protocol.tasks import Capability, Task

PROCESS_BYTES = 70 << 20  # Python with onnxruntime, tokenizers and numpy
MAX_TEXTS = 2048  # as OpenAI


class OnnxEmbedOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options in the config."""

    threads: Count = 1
    context: Count = 256  # tokens of one text
    max_batch_tokens: Count = 512  # padded tokens in one run; more costs memory and gains little on a cpu
    pooling: Literal["mean", "cls"] = "mean"
    normalize: bool = True  # to unit length, so that a dot product is the cosine
    matryoshka: bool = False  # trained so that the beginning of a vector is one, too, which may be asked for


class _Texts(msgspec.Struct):
    """What of a body tells its size."""

    input: str | list[str | int | list[int]]


@dataclass(slots=True)
class _Item:
    """One request's texts on their way to vectors."""

    request: EngineRequest
    base64: bool
    tokens: list[list[int]]
    dimensions: int
    vectors: list[Any] = field(default_factory=list)
    left: int = 0


class OnnxEmbed(Engine):
    """``source`` is the model, ``files.tokenizer`` its tokenizer.json."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.EMBED})
    Options: ClassVar[type[msgspec.Struct]] = OnnxEmbedOptions
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime", "tokenizers", "numpy")
    imports: ClassVar[tuple[str, ...]] = libraries
    extra: ClassVar[str | None] = "onnx-embed"

    @classmethod
    def estimate(cls, spec: ModelSpec, source_bytes: int) -> Estimate:
        """ONNX Runtime unpacks weights into several times what an int8 file holds, more while it loads."""
        options = msgspec.convert(spec.options, OnnxEmbedOptions)
        resident = PROCESS_BYTES + source_bytes * 9 // 2
        return Estimate(
            idle=resident,
            load=resident + source_bytes * 5,
            # attention scores of one text (heads * tokens^2 floats) and activations of one run
            activation=(16 << 20) + options.max_batch_tokens * (128 << 10),
        )

    @classmethod
    def capabilities_with(cls, options: msgspec.Struct) -> frozenset[Capability]:
        """To shorten vectors is for models that were trained for it, which their owner must know."""
        assert isinstance(options, OnnxEmbedOptions)
        return frozenset({Capability.SHORTEN}) if options.matryoshka else frozenset()

    @classmethod
    def units(cls, request: EngineRequest) -> int:
        """Padded tokens, were all its texts run together and every byte a token."""
        try:
            texts = msgspec.json.decode(request.body, type=_Texts).input
        except msgspec.DecodeError:  # what Python's json takes beyond the standard, such as NaN in some other field
            return len(request.body)
        if isinstance(texts, str):
            texts = [texts]
        return len(texts) * max(map(_most_tokens, texts), default=0)

    def load(self, spec: ModelSpec, device: Device) -> None:
        """Open model and tokenizer."""
        try:
            import numpy as np
            from tokenizers import Tokenizer

            from cohabit.engines.onnx_session import open_session, shrinking
        except ImportError as error:
            raise EngineError(f"{error.name} is missing: pip install 'cohabit[onnx-embed]'") from None
        self._options = options = msgspec.convert(spec.options, OnnxEmbedOptions)
        if "tokenizer" not in spec.files:
            raise EngineError("the model needs its tokenizer.json under files: {tokenizer: ...}")
        for path in (spec.source, spec.files["tokenizer"]):
            if not Path(path).is_file():
                raise EngineError(f"there is no file {path}")
        self._np = np
        self._name = spec.name
        self._session = open_session(spec.source, threads=options.threads, device=device)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._run_options = shrinking(device)
        self._tokenizer = Tokenizer.from_file(spec.files["tokenizer"])
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._vocabulary = self._tokenizer.get_vocab_size()
        self._frame = self._tokenizer.encode("").ids  # [CLS] and [SEP] in BERT's words

    def warmup(self) -> None:
        """One short text; also shows how long a vector is."""
        self.dimensions = len(self._encode([[0, 1, 2]])[0])

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """All texts of the batch together, longest last; every request is answered when its last text is done."""
        items = []
        for request in batch:
            try:
                items.append(self._read(request))
            except BadItem as bad:
                yield bad.error(request.id)
        texts = sorted(
            ((item, index) for item in items for index in range(len(item.tokens))),
            key=lambda text: len(text[0].tokens[text[1]]),
        )
        while texts:
            run = self._cut(texts)
            run = [(item, index) for item, index in run if not cancelled(item.request.id)]
            if not run:
                continue
            vectors = self._encode([item.tokens[index] for item, index in run])
            for (item, index), vector in zip(run, vectors, strict=True):
                item.vectors[index] = self._shortened(vector, item.dimensions)
                item.left -= 1
                if item.left == 0:
                    yield Chunk(item.request.id, self._answer(item))

    def close(self) -> None:
        del self._session

    def _cut(self, texts: list[tuple[_Item, int]]) -> list[tuple[_Item, int]]:
        """Take from the front as many texts as one run may hold, at least one."""
        count = 1
        while count < len(texts):
            item, index = texts[count]  # the longest so far, since they are sorted
            if len(item.tokens[index]) * (count + 1) > self._options.max_batch_tokens:
                break
            count += 1
        run = texts[:count]
        del texts[:count]
        return run

    def _encode(self, texts: list[list[int]]) -> Any:
        """Vectors (texts, dimensions) of tokenized texts."""
        np = self._np
        longest = max(map(len, texts))
        ids = np.zeros((len(texts), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds = {name: feeds[name] for name in feeds if name in self._inputs}
        hidden = self._session.run(None, feeds, self._run_options)[0]  # (texts, tokens, dimensions)
        if self._options.pooling == "cls":
            vectors = hidden[:, 0]
        else:
            weights = mask[..., None].astype(hidden.dtype)
            vectors = (hidden * weights).sum(1) / weights.sum(1)
        if self._options.normalize:
            vectors = self._normalized(vectors)
        return vectors.astype(np.float32)

    def _shortened(self, vector: Any, dimensions: int) -> Any:
        """The first so many of a vector's dimensions, to unit length again where it was."""
        if dimensions == len(vector):
            return vector
        return self._normalized(vector[:dimensions]) if self._options.normalize else vector[:dimensions]

    def _normalized(self, vectors: Any) -> Any:
        np = self._np
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)

    def _read(self, request: EngineRequest) -> _Item:
        body = json.loads(request.body)
        dimensions = self._dimensions(body.get("dimensions"))
        texts = body["input"]
        single = isinstance(texts, str) or (texts and isinstance(texts[0], int))
        if single:
            texts = [texts]
        if not texts or len(texts) > MAX_TEXTS:
            raise BadItem(f"between 1 and {MAX_TEXTS} texts are needed, not {len(texts)}", param="input")
        tokens = [self._tokenize(text, "input" if single else f"input.{index}") for index, text in enumerate(texts)]
        item = _Item(request, body.get("encoding_format") == "base64", tokens, dimensions)
        item.vectors = [None] * len(tokens)
        item.left = len(tokens)
        return item

    def _dimensions(self, wanted: int | None) -> int:
        """How long vectors are to be. Raises BadItem."""
        if wanted is None or wanted == self.dimensions:
            return self.dimensions
        if not self._options.matryoshka:
            message = f"{self._name} makes vectors of {self.dimensions} dimensions and cannot shorten them"
            raise BadItem(message, param="dimensions", code="unsupported_parameter")
        if not 0 < wanted < self.dimensions:
            raise BadItem(f"dimensions must be from 1 to {self.dimensions} for {self._name}", param="dimensions")
        return wanted

    def _tokenize(self, text: str | list[int], place: str) -> list[int]:
        if not text:
            raise BadItem(f"{place} is empty; send some text", param=place)
        tokens: list[int] = self._tokenizer.encode(text).ids if isinstance(text, str) else text
        if len(tokens) > self._options.context:
            raise BadItem(
                f"{place} has {len(tokens)} tokens and the model takes {self._options.context}; split it",
                param=place,
                code="context_length_exceeded",
            )
        if not all(0 <= token < self._vocabulary for token in tokens):
            raise BadItem(f"{place} has a token outside the model's vocabulary of {self._vocabulary}", param=place)
        # LangChain sends the numbers of OpenAI's tokenizer unless told otherwise: vectors of them would mean nothing.
        if len(self._frame) == 2 and [tokens[0], tokens[-1]] != self._frame:
            begin, end = self._frame
            raise BadItem(
                f"{place} is not of the model's own tokenizer, where {begin} begins a text and {end} ends it;"
                " send the text itself",
                param=place,
            )
        return tokens

    def _answer(self, item: _Item) -> bytes:
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.tobytes()).decode() if item.base64 else vector.tolist(),
            }
            for index, vector in enumerate(item.vectors)
        ]
        count = sum(map(len, item.tokens))
        usage = {"prompt_tokens": count, "total_tokens": count}
        return msgspec.json.encode({"object": "list", "data": data, "model": self._name, "usage": usage})


def _most_tokens(text: str | int | list[int]) -> int:
    """A tokenizer makes at most one of each byte, and adds one at either end. A number is a token already."""
    match text:
        case str():
            return len(text.encode()) + 2
        case list():
            return len(text)
        case int():
            return 1

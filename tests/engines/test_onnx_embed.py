"""ONNX embeddings on the preset's real model."""

import base64
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cohabit.config.load import load_config
from cohabit.engines.onnx_embed import OnnxEmbed, OnnxEmbedOptions
from cohabit.protocol.engine import Chunk, EngineError, EngineRequest, ItemError
from cohabit.protocol.inspection import Piece
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Capability, Task
from cohabit.runtime.calibration import batches
from engines.engine_calls import answer, loaded, memory_taken, refusal, request_of, run

pytestmark = pytest.mark.model

MIB = 1 << 20


@pytest.fixture(scope="module")
def engine(preset_specs: dict[str, ModelSpec]) -> Iterator[OnnxEmbed]:
    with loaded(OnnxEmbed(), preset_specs["embeddings"]) as made:
        yield made


def vectors(engine: OnnxEmbed, *texts: str) -> list[list[float]]:
    """One for each text."""
    return [entry["embedding"] for entry in answer(engine, Task.EMBED, {"input": list(texts)})["data"]]


def dot(left: list[float], right: list[float]) -> float:
    """The cosine, of unit vectors."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_similar_sentences_have_similar_vectors(engine: OnnxEmbed) -> None:
    eating, meal, stocks = vectors(engine, "A man is eating food", "Someone is having a meal", "Stocks crashed")
    assert dot(eating, eating) == pytest.approx(1, abs=1e-4)
    assert dot(eating, meal) > 0.5
    assert dot(eating, stocks) < 0.2


def test_batching_changes_vectors_little(engine: OnnxEmbed) -> None:
    alone = vectors(engine, "short")[0]
    together = vectors(engine, "short", "a much longer text than the other one, so that the short one is padded")[0]
    assert dot(alone, together) > 0.98, "int8 activations are scaled by the whole run"


def test_order_usage_and_base64(engine: OnnxEmbed) -> None:
    texts = ["one two three four five six", "one", "one two"]
    body = answer(engine, Task.EMBED, {"input": texts, "encoding_format": "base64"})
    raw = [base64.b64decode(entry["embedding"]) for entry in body["data"]]
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2]
    assert len(struct.unpack("<384f", raw[0])) == 384
    assert body["usage"] == {"prompt_tokens": (6 + 2) + (1 + 2) + (2 + 2), "total_tokens": 15}
    for index, text in enumerate(texts):
        assert dot(list(struct.unpack("<384f", raw[index])), vectors(engine, text)[0]) > 0.98


def test_tokens_may_be_sent_instead_of_text(engine: OnnxEmbed) -> None:
    text = vectors(engine, "hello world")[0]
    tokens = answer(engine, Task.EMBED, {"input": [101, 7592, 2088, 102]})["data"]
    assert dot(tokens[0]["embedding"], text) > 0.999
    two = answer(engine, Task.EMBED, {"input": [[101, 102], [101, 7592, 102]]})["data"]
    assert len(two) == 2


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"input": []}, "input", "between 1 and 2048"),
        ({"input": ["canary"] * 2049}, "input", "between 1 and 2048"),
        ({"input": ["canary", ""]}, "input.1", "input.1 is empty"),
        ({"input": ""}, "input", "input is empty"),
        ({"input": "canary " * 300}, "input", "input has 302 tokens and the model takes 256"),
        ({"input": ["canary", "a " * 255]}, "input.1", "input.1 has 257 tokens and the model takes 256"),
        ({"input": [[101] * 257]}, "input.0", "input.0 has 257 tokens and the model takes 256"),
        ({"input": [[101, 999999]]}, "input.0", "outside the model's vocabulary of 30522"),
        ({"input": [101, -1]}, "input", "outside the model's vocabulary"),
        ({"input": [[101, 7592, 102], [15339, 1917]]}, "input.1", "input.1 is not of the model's own tokenizer"),
        ({"input": "canary", "dimensions": 64}, "dimensions", "384"),
    ],
)
def test_refusal_names_the_field(engine: OnnxEmbed, body: dict[str, object], param: str, said: str) -> None:
    error = refusal(engine, Task.EMBED, body)
    assert (error.status, error.param) == (400, param)
    assert said in error.message
    assert "canary" not in error.message


def test_inputs_are_limited_as_by_openai(engine: OnnxEmbed) -> None:
    found = answer(engine, Task.EMBED, {"input": [f"text {number}" for number in range(2048)]})
    assert [entry["index"] for entry in found["data"]] == list(range(2048))
    assert found["usage"]["prompt_tokens"] >= 4 * 2048


def test_matryoshka_model_shortens_vectors(preset_specs: dict[str, ModelSpec]) -> None:
    """How, not how well: that the short ones mean something is a matter of training, which this model has not had."""
    spec = preset_specs["embeddings"]
    nested = msgspec.structs.replace(spec, options={**spec.options, "matryoshka": True})
    with loaded(OnnxEmbed(), nested) as engine:
        (whole,) = vectors(engine, "hello world")
        for size in (1, 64, 384):
            body = {"input": "hello world", "dimensions": size}
            short = answer(engine, Task.EMBED, body)["data"][0]["embedding"]
            length = math.hypot(*whole[:size])
            assert short == pytest.approx([part / length for part in whole[:size]], abs=1e-6)
            packed = answer(engine, Task.EMBED, {**body, "encoding_format": "base64"})["data"][0]["embedding"]
            assert struct.unpack(f"<{size}f", base64.b64decode(packed)) == pytest.approx(short)
        error = refusal(engine, Task.EMBED, {"input": "a", "dimensions": 385})
        assert (error.param, error.message) == ("dimensions", "dimensions must be from 1 to 384 for embeddings")


def test_native_dimensions_may_be_requested(engine: OnnxEmbed) -> None:
    found = answer(engine, Task.EMBED, {"input": "a", "dimensions": 384})
    assert len(found["data"][0]["embedding"]) == 384
    assert refusal(engine, Task.EMBED, {"input": "a", "dimensions": 64}).code == "unsupported_parameter"


def test_shortening_is_an_option() -> None:
    assert OnnxEmbed.capabilities_with(OnnxEmbedOptions()) == frozenset()
    assert OnnxEmbed.capabilities_with(OnnxEmbedOptions(matryoshka=True)) == {Capability.SHORTEN}


@pytest.mark.parametrize(
    "texts",
    [
        ["a"],
        ["a", "longer than the other"],
        ["\u00e9\u00e8\U0001f600" * 5, "x"],
        ["antidisestablishmentarianism"],
        [" "],
        ["..."],
    ],
)
def test_units_are_never_fewer_than_the_padded_tokens(engine: OnnxEmbed, texts: list[str]) -> None:
    tokens = [len(engine._tokenizer.encode(text).ids) for text in texts]
    units = OnnxEmbed.units(request_of(Task.EMBED, {"input": texts}))
    assert max(tokens) * len(texts) <= units <= 20 * max(tokens) * len(texts)
    alone = OnnxEmbed.units(request_of(Task.EMBED, {"input": texts[0]}))
    assert tokens[0] <= alone


@pytest.mark.parametrize(
    ("body", "units"),
    [
        (b'{"input": "abc"}', 5),
        (b'{"input": ["abc", "a"]}', 10),
        (b'{"input": [101, 2054, 102]}', 3),
        (b'{"input": [[101, 102], [101, 2054, 102]]}', 6),
        (b'{"input": []}', 0),
        (b'{"input": "abc", "odd": NaN}', 28),
    ],
)
def test_units_of_all_forms_of_input(body: bytes, units: int) -> None:
    assert OnnxEmbed.units(EngineRequest(1, Task.EMBED, body)) == units


def test_error_belongs_to_its_item(engine: OnnxEmbed) -> None:
    outputs = run(engine, Task.EMBED, {"input": "fine"}, {"input": ""}, {"input": ["also", "fine"]})
    assert isinstance(outputs[0][0], Chunk)
    assert isinstance(outputs[1][0], ItemError)
    assert isinstance(outputs[2][0], Chunk)


def test_a_cancelled_request_costs_no_more_runs(engine: OnnxEmbed) -> None:
    outputs = run(
        engine,
        Task.EMBED,
        {"input": ["long text " * 50] * 200},
        {"input": "kept"},
        cancelled=lambda number: number == 0,
    )
    assert outputs[0] == []
    assert isinstance(outputs[1][0], Chunk)


def test_memory_of_a_run_is_bounded_whatever_is_sent(preset_specs: dict[str, ModelSpec]) -> None:
    body = {"input": ["word " * 254] * 4}
    peak, left = memory_taken(OnnxEmbed, preset_specs["embeddings"], Task.EMBED, *[body] * 4)
    assert 16 * MIB < peak < 80 * MIB, "what the preset declares as working"
    assert left < 16 * MIB, "and it is given back"


async def test_calibration_request_fills_the_context(engine: OnnxEmbed) -> None:
    async def inspect(_piece: Piece) -> bytes:
        raise AssertionError("there is nothing but text in it")

    (batch,) = await batches(load_config("embedded"), "embeddings", inspect)
    outputs = run(engine, Task.EMBED, *(json.loads(call.body) for call in batch))
    for (output,) in outputs.values():
        assert isinstance(output, Chunk), output
        assert json.loads(output.data)["usage"]["prompt_tokens"] == 4 * 256


def test_the_estimate_is_honest(preset_specs: dict[str, ModelSpec]) -> None:
    spec = preset_specs["embeddings"]
    size = Path(spec.source).stat().st_size + Path(spec.files["tokenizer"]).stat().st_size
    estimate = OnnxEmbed.estimate(spec, size)
    assert 0.95 * 165 * MIB < estimate.idle < 1.3 * 165 * MIB  # see docs/engines.md
    assert 0.95 * 279 * MIB < estimate.load < 1.3 * 279 * MIB


def test_missing_files_are_named(preset_specs: dict[str, ModelSpec]) -> None:
    spec = preset_specs["embeddings"]
    without = ModelSpec(name="x", engine="onnx-embed", source=spec.source)
    missing = ModelSpec(name="x", engine="onnx-embed", source="/none.onnx", files=spec.files)
    for wrong in (without, missing):
        with pytest.raises(EngineError):
            OnnxEmbed().load(wrong, Device("cpu"))


def test_missing_cuda_runtime_is_explained(preset_specs: dict[str, ModelSpec]) -> None:
    with pytest.raises(EngineError, match="onnxruntime-gpu"):
        OnnxEmbed().load(preset_specs["embeddings"], Device("cuda"))

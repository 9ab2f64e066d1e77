"""llama.cpp on the preset's real model."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cohabit.engines.llamacpp import LlamaCpp, refused
from cohabit.protocol.engine import Chunk, EngineError
from cohabit.protocol.memory import peak_and_resident, reset_peak, resident_bytes
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from engines.driving import answer, loaded, pieces, refusal, request_of, run

pytestmark = pytest.mark.model

MIB = 1 << 20


@pytest.fixture(scope="module")
def engine(preset_specs: dict[str, ModelSpec]) -> Iterator[LlamaCpp]:
    with loaded(LlamaCpp(), preset_specs["llm"]) as made:
        yield made


def chat(text: str, **fields: object) -> dict[str, object]:
    """A chat's body."""
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, "seed": 1, **fields}


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_answer_ends_where_it_is_told(engine: LlamaCpp, field: str) -> None:
    body = answer(engine, Task.CHAT, chat("Tell me a story.", **{field: 5}))
    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"


def test_stop_n_and_logprobs_pass_through(engine: LlamaCpp) -> None:
    stopped = answer(engine, Task.CHAT, chat("Which city is the capital of France?", stop=["Paris"]))
    assert "Paris" not in stopped["choices"][0]["message"]["content"]
    assert len(answer(engine, Task.CHAT, chat("Hi", n=2, max_tokens=2))["choices"]) == 2
    logprobs = answer(engine, Task.CHAT, chat("Hi", max_tokens=2, logprobs=True, top_logprobs=2))
    assert len(logprobs["choices"][0]["logprobs"]["content"]) == 2


def test_a_stream_has_no_key_of_llama_cpps_own(engine: LlamaCpp) -> None:
    chunks = pieces(engine, Task.CHAT, chat("Hi", max_tokens=3))
    keys = set().union(*chunks)
    assert keys == {"id", "object", "created", "model", "system_fingerprint", "choices"}
    assert {chunk["model"] for chunk in chunks} == {"llm"}


def test_the_context_is_each_requests_own(engine: LlamaCpp) -> None:
    error = refusal(engine, Task.CHAT, chat("word " * 3000))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert "2048" in error.message
    assert "word" not in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "canary"}}}},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:canary"}}]}]},
        {"grammar": "canary ::="},
    ],
)
def test_what_it_cannot_take_is_refused_without_a_quote(engine: LlamaCpp, fields: dict[str, object]) -> None:
    error = refusal(engine, Task.CHAT, chat("canary", **fields))
    assert error.status == 400
    assert "canary" not in error.message


def test_its_own_failure_is_not_the_clients_fault() -> None:
    assert refused(1, {"code": 500, "message": "canary"}).status == 500
    assert "canary" not in refused(1, {"code": 500, "message": "canary"}).message


def test_a_cancel_bites_within_a_few_tokens(engine: LlamaCpp) -> None:
    seen: list[int] = []

    def cancelled(_: int) -> bool:
        return len(seen) >= 5

    for output in engine.run(
        [request_of(Task.CHAT, chat("Count to a thousand.", max_tokens=500, stream=True, ignore_eos=True))], cancelled
    ):
        assert isinstance(output, Chunk)
        seen += [1] * output.tokens
    assert 5 <= len(seen) <= 8


def test_a_cancel_bites_during_a_long_prompt(engine: LlamaCpp) -> None:
    cancel = threading.Event()
    timer = threading.Timer(0.3, cancel.set)
    timer.start()
    began = time.monotonic()
    run(engine, Task.CHAT, chat("wird " * 900, max_tokens=1), cancelled=lambda _: cancel.is_set())
    assert time.monotonic() - began < 2.0, "reading it all takes some 4 s"
    timer.join()


def test_an_abandoned_stream_stops_and_frees_its_slot(engine: LlamaCpp) -> None:
    stream = engine.run(
        [request_of(Task.CHAT, chat("Count.", max_tokens=900, stream=True, ignore_eos=True))], lambda _: False
    )
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # run is a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("generate")]


def test_four_full_contexts_stay_within_the_declared_working_memory(engine: LlamaCpp) -> None:
    before = resident_bytes()
    reset_peak()
    threads = [
        threading.Thread(target=run, args=(engine, Task.CHAT, chat(f"w{number} " * 500, max_tokens=1)))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peak_and_resident()[0] - before < 40 * MIB


def test_the_estimate_is_honest(preset_specs: dict[str, ModelSpec]) -> None:
    spec = preset_specs["llm"]
    estimate = LlamaCpp.estimate(spec, Path(spec.source).stat().st_size)
    measured = 337 * MIB  # resident, in a worker of its own; see docs/engines.md
    assert 0.95 * measured < estimate.resident < 1.3 * measured


def test_a_file_that_is_not_there_or_not_a_model(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path / "bad.gguf"):
        (tmp_path / "bad.gguf").write_bytes(b"not a model")
        with pytest.raises(EngineError):
            LlamaCpp().load(ModelSpec(name="x", engine="llamacpp", source=str(path)), Device("cpu"))

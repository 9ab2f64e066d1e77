"""llama.cpp on the preset's real model."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cohabit.engines.llamacpp.engine import LlamaCpp, refused
from cohabit.protocol.engine import Chunk, EngineError, ItemError
from cohabit.protocol.memory import peak_and_resident, reset_peak, resident_bytes
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from cohabit.schemas.answers import CompletionAnswer
from engines.engine_calls import answer, loaded, pieces, refusal, request_of, run

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
def test_answer_ends_at_max_tokens(engine: LlamaCpp, field: str) -> None:
    body = answer(engine, Task.CHAT, chat("Tell me a story.", **{field: 5}))
    assert body["usage"]["completion_tokens"] == 5
    assert body["choices"][0]["finish_reason"] == "length"


def test_stop_and_n_work_and_the_prompt_counts_once(engine: LlamaCpp) -> None:
    stopped = answer(engine, Task.CHAT, chat("Which city is the capital of France?", stop=["Paris"]))
    assert "Paris" not in stopped["choices"][0]["message"]["content"]
    two = answer(engine, Task.CHAT, chat("Hi", n=2, max_tokens=2))
    assert len(two["choices"]) == 2
    assert (
        two["usage"]["prompt_tokens"] == answer(engine, Task.CHAT, chat("Hi", max_tokens=2))["usage"]["prompt_tokens"]
    )
    assert "n must be at most 4" in refusal(engine, Task.CHAT, chat("Hi", n=5)).message


@pytest.mark.parametrize("top", [0, 2])
def test_logprobs_are_in_openais_shape(engine: LlamaCpp, top: int) -> None:
    whole = answer(engine, Task.CHAT, chat("Hi", max_tokens=2, logprobs=True, top_logprobs=top))
    entries = whole["choices"][0]["logprobs"]["content"]
    assert [len(entry["top_logprobs"]) for entry in entries] == [top, top]
    assert set(entries[0]) == {"token", "bytes", "logprob", "top_logprobs"}
    lists = answer(engine, Task.COMPLETE, {"prompt": "The capital of France is", "logprobs": top, "max_tokens": 2})
    assert len(lists["choices"][0]["logprobs"]["tokens"]) == 2
    assert msgspec.convert(lists, CompletionAnswer), "as the API's document says"


@pytest.mark.parametrize("seed", [7, -1, 2**63 - 1])
def test_same_seed_gives_the_same_answer(engine: LlamaCpp, seed: int) -> None:
    body = chat("Say something.", max_tokens=8, seed=seed) | {"temperature": 1.5}
    first, second = (answer(engine, Task.CHAT, body)["choices"][0]["message"] for _ in range(2))
    assert first == second


CITY = {
    "$ref": "#/$defs/City",
    "$defs": {
        "City": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 10}},
            "required": ["city"],
            "additionalProperties": False,
        }
    },
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": CITY}} for name in ("weather", "clock")]
FORCED = ["required", {"type": "function", "function": {"name": "clock"}}]


@pytest.mark.parametrize("choice", FORCED)
def test_required_tool_call_is_made(engine: LlamaCpp, choice: object) -> None:
    body = chat("What is the weather in Paris?", tools=TOOLS, tool_choice=choice, max_tokens=60)
    whole = answer(engine, Task.CHAT, body)["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    (call,) = whole["message"]["tool_calls"]
    assert call["function"]["name"] in (["clock"] if isinstance(choice, dict) else ["weather", "clock"])
    assert set(json.loads(call["function"]["arguments"])) == {"city"}
    deltas = [one["choices"][0]["delta"] for one in pieces(engine, Task.CHAT, body)]
    streamed = [made["function"] for delta in deltas for made in delta.get("tool_calls", [])]
    assert "".join(made["arguments"] for made in streamed) == call["function"]["arguments"]
    assert [made["name"] for made in streamed if "name" in made] == [call["function"]["name"]]


def test_tools_are_in_the_prompt_and_need_not_be_called(engine: LlamaCpp) -> None:
    without = answer(engine, Task.CHAT, chat("Hi", max_tokens=4))
    offered = answer(engine, Task.CHAT, chat("Hi", max_tokens=4, tools=TOOLS))
    assert offered["usage"]["prompt_tokens"] > without["usage"]["prompt_tokens"] + 50
    assert offered["choices"][0]["finish_reason"] == "length"


def test_answer_follows_its_schema(engine: LlamaCpp) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    whole = answer(engine, Task.CHAT, chat("Name a city.", response_format=form, max_tokens=40))
    assert set(json.loads(whole["choices"][0]["message"]["content"])) == {"city"}


@pytest.mark.parametrize(
    "schema", [{"type": "canary"}, {"$ref": "#/$defs/canary"}, {"type": "string", "pattern": "(?=canary)b"}]
)
def test_unusable_schema_is_refused_rather_than_ignored(
    engine: LlamaCpp, schema: dict[str, object], capfd: pytest.CaptureFixture[str]
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    for fields, param in (({"response_format": form}, "response_format"), ({"tools": tools}, "tools")):
        error = refusal(engine, Task.CHAT, chat("canary", max_tokens=4, **fields))
        assert (error.status, error.param) == (400, param)
    assert "canary" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("strict", [True, False])
def test_unknown_keyword_of_a_strict_schema_is_refused(engine: LlamaCpp, strict: bool) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "maxItems": 2, "uniqueItems": True}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": strict}}
    body = chat("Two numbers.", max_tokens=20, response_format=form)
    if strict:
        assert refusal(engine, Task.CHAT, body).param == "response_format"
    else:
        assert isinstance(json.loads(answer(engine, Task.CHAT, body)["choices"][0]["message"]["content"]), list)


def test_completions_echo_their_prompts_in_order(engine: LlamaCpp) -> None:
    body = {"prompt": ["One two", "A b"], "n": 2, "echo": True, "max_tokens": 2, "temperature": 0}
    texts = [choice["text"] for choice in answer(engine, Task.COMPLETE, body)["choices"]]
    assert [text[:3] for text in texts] == ["One", "One", "A b", "A b"]


def test_a_stream_has_no_key_of_llama_cpps_own(engine: LlamaCpp) -> None:
    chunks = pieces(engine, Task.CHAT, chat("Hi", max_tokens=3))
    keys = set().union(*chunks)
    assert keys == {"id", "object", "created", "model", "system_fingerprint", "choices"}
    assert not [chunk for chunk in chunks if not chunk["choices"]], "no usage unless it was asked for"
    assert {chunk["model"] for chunk in chunks} == {"llm"}


def test_the_context_is_each_requests_own(engine: LlamaCpp) -> None:
    error = refusal(engine, Task.CHAT, chat("word " * 3000))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert "2048" in error.message
    assert "word" not in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:canary"}}]}]},
        {"grammar": "canary ::="},
    ],
)
def test_refusal_does_not_quote_the_prompt(engine: LlamaCpp, fields: dict[str, object]) -> None:
    error = refusal(engine, Task.CHAT, chat("canary", **fields))
    assert error.status == 400
    assert "canary" not in error.message


def test_engine_failure_is_a_server_error() -> None:
    assert refused(1, {"code": 500, "message": "canary"}).status == 500
    assert "canary" not in refused(1, {"code": 500, "message": "canary"}).message


def test_cancel_takes_effect_within_a_few_tokens(engine: LlamaCpp) -> None:
    seen: list[int] = []

    def cancelled(_: int) -> bool:
        return len(seen) >= 5

    for output in engine.run(
        [request_of(Task.CHAT, chat("Count to a thousand.", max_tokens=500, stream=True, ignore_eos=True))], cancelled
    ):
        assert isinstance(output, Chunk)
        seen += [1] * output.tokens
    assert 5 <= len(seen) <= 8


def test_cancel_takes_effect_during_a_long_prompt(engine: LlamaCpp) -> None:
    def cpu_seconds(word: str, cancelled: Callable[[int], bool]) -> float:
        began = time.process_time()
        run(engine, Task.CHAT, chat(f"{word} " * 900, max_tokens=1), cancelled=cancelled)
        return time.process_time() - began

    asked = 0

    def at_the_second_time(_: int) -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    assert cpu_seconds("wird", at_the_second_time) < 0.7 * cpu_seconds("ward", lambda _: False)


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
    assert 0.95 * measured < estimate.idle < 1.3 * measured


def test_missing_or_broken_file_is_explained(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path / "bad.gguf"):
        (tmp_path / "bad.gguf").write_bytes(b"not a model")
        with pytest.raises(EngineError):
            LlamaCpp().load(ModelSpec(name="x", engine="llamacpp", source=str(path)), Device("cpu"))


@pytest.mark.parametrize("splitting", [b"gpt-4o", b"tekken"])
def test_long_run_of_letters_does_not_end_the_worker(
    splitting: bytes, preset_specs: dict[str, ModelSpec], tmp_path: Path
) -> None:
    """With these ways to split a text, llama.cpp recurses for each letter."""
    spec = preset_specs["llm"]
    whole = Path(spec.source).read_bytes()
    key = b"tokenizer.ggml.pre"
    at = whole.index(b"smollm", whole.index(key))
    assert at - whole.index(key) < 64
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(whole[:at] + splitting + whole[at + len(splitting) :])
    options = {**spec.options, "context": 1024}
    with loaded(LlamaCpp(), msgspec.structs.replace(spec, source=str(changed), options=options)) as engine:
        for text in ("a" * 30_000, "a" * 59_000, "a" * 120_000, "<|im_end|>" * 100_000):
            (output, *_) = run(engine, Task.CHAT, chat(text, max_tokens=1))[0]
            assert isinstance(output, ItemError)
            assert output.code == "context_length_exceeded"

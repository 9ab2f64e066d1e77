"""The fake engine does what it is told: it stands in for real ones, so it must be exact."""

import time
from typing import ClassVar

import pytest

from cohabit.engines import fake as module
from cohabit.engines.fake import Fake, touched
from cohabit.protocol.engine import EngineError
from cohabit.protocol.memory import resident_bytes
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from engines.engine_calls import answer, pieces, refusal, request_of, run

CHAT = {"messages": [{"role": "user", "content": "secret words"}]}


def fake(**options: object) -> Fake:
    """Loaded with these options."""
    engine = Fake()
    engine.load(ModelSpec(name="f", engine="fake", options=options, concurrency=2), Device("cpu"))
    return engine


class Card:
    """In a card's place: notes what is taken."""

    taken: ClassVar[list[tuple[str, int]]] = []
    host_is_full: ClassVar[bool] = False

    def __init__(self, index: int) -> None:
        assert index == 2

    def pinned(self, content: bytearray) -> bytearray:
        if self.host_is_full:
            raise MemoryError
        return content

    def touched(self, size: int) -> object:
        self.taken.append(("written", size))
        return object()

    def filled(self, content: bytearray) -> object:
        self.taken.append(("copied", len(content)))
        return object()


@pytest.mark.parametrize("keep_copy", [False, True])
def test_device_memory_wakes_from_the_host_copy(monkeypatch: pytest.MonkeyPatch, *, keep_copy: bool) -> None:
    monkeypatch.setattr(module, "Card", Card)
    Card.taken.clear()
    engine = Fake()
    options = {"idle": 5000, "sleep_resident": 10}
    spec = ModelSpec(name="f", engine="fake", options=options, keep_copy=keep_copy)
    engine.load(spec, Device("cuda", 2))
    assert engine.copied == (5000 if keep_copy else 0)
    assert engine.sleep()
    engine.wake()
    assert Card.taken == [("written", 5000), ("written", 10), ("copied" if keep_copy else "written", 5000)]
    engine.close()


def test_missing_host_memory_means_no_host_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Card", Card)
    monkeypatch.setattr(Card, "host_is_full", True)
    Card.taken.clear()
    engine = Fake()
    engine.load(ModelSpec(name="f", engine="fake", options={"idle": 5000}, keep_copy=True), Device("cuda", 2))
    assert engine.copied == 0
    assert engine.sleep()
    engine.wake()
    assert Card.taken == [("written", 5000), ("written", 0), ("written", 5000)]


def test_a_plain_chat_has_openais_shape_and_nothing_of_the_question() -> None:
    body = answer(fake(tokens=3), Task.CHAT, CHAT)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "word word word "}
    assert body["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    assert "secret" not in str(body)


@pytest.mark.parametrize(("field", "count"), [("max_tokens", 2), ("max_completion_tokens", 1)])
def test_token_limits_are_kept(field: str, count: int) -> None:
    assert answer(fake(tokens=3), Task.CHAT, {**CHAT, field: count})["usage"]["completion_tokens"] == count


def test_a_stream_has_a_chunk_a_token_and_usage_only_if_asked() -> None:
    chunks = pieces(fake(tokens=3), Task.CHAT, CHAT)
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
    asked = pieces(fake(tokens=3), Task.CHAT, {**CHAT, "stream_options": {"include_usage": True}})
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["completion_tokens"] == 3


def test_a_stamped_chunk_says_when_it_was_made() -> None:
    began = time.monotonic()
    chunks = pieces(fake(tokens=3), Task.CHAT, {**CHAT, "fake": {"stamp": True, "token_seconds": 0.01}})
    stamps = [float(chunk["choices"][0]["delta"]["content"]) for chunk in chunks[:-1]]
    assert began < stamps[0] < stamps[1] < stamps[2] < time.monotonic()


def test_completions_and_embeddings() -> None:
    engine = fake(tokens=1, dimensions=4)
    assert answer(engine, Task.COMPLETE, {"prompt": "a"})["choices"][0]["text"] == "word "
    assert pieces(engine, Task.COMPLETE, {"prompt": "a"})[0]["choices"][0]["text"] == "0 "
    vectors = answer(engine, Task.EMBED, {"input": ["a", "b"]})["data"]
    assert [vector["embedding"] for vector in vectors] == [[1, 0, 0, 0], [0, 1, 0, 0]]
    assert answer(engine, Task.EMBED, {"input": [1, 2], "encoding_format": "base64"})["data"][0]["embedding"]


def test_rerank_and_requested_dimensions() -> None:
    engine = fake(dimensions=4)
    found = answer(engine, Task.RERANK, {"query": "a", "documents": ["b", "c"]})
    assert [result["relevance_score"] for result in found["results"]] == [0.5, 1.0]
    vector = answer(engine, Task.EMBED, {"input": "a", "dimensions": 2})["data"][0]["embedding"]
    assert vector == [1, 0]
    for wanted in (5, 30_000_000_000):
        error = refusal(engine, Task.EMBED, {"input": "a", "dimensions": wanted})
        assert (error.status, error.param) == (400, "dimensions")
        assert "from 1 to 4" in error.message


def test_configured_memory_is_allocated() -> None:
    before = resident_bytes()
    memory = touched(64 << 20)
    assert resident_bytes() - before > 60 << 20
    del memory


def test_configured_failures_happen() -> None:
    with pytest.raises(EngineError):
        fake(fail="load")
    with pytest.raises(MemoryError):
        run(fake(fail="oom"), Task.CHAT, CHAT)
    with pytest.raises(RuntimeError):
        run(fake(fail="run"), Task.CHAT, CHAT)
    engine = fake(fail="item", fail_times=1)
    assert refusal(engine, Task.CHAT, CHAT).code == "fake_refusal"
    assert answer(engine, Task.CHAT, CHAT)["usage"], "only the first fails"
    assert refusal(fake(), Task.CHAT, {**CHAT, "fake": {"fail": "item"}}).code == "fake_refusal"


def test_a_cancel_ends_a_wait() -> None:
    began = time.monotonic()
    outputs = run(fake(run_seconds=30, token_seconds=30), Task.CHAT, CHAT, cancelled=lambda _: True)
    assert outputs == {0: []}
    assert time.monotonic() - began < 30, "it did not wait to the end"


def test_estimate_is_the_configured_memory() -> None:
    spec = ModelSpec(name="f", engine="fake", options={"idle": 100 << 20, "activation": 10 << 20}, concurrency=3)
    estimate = Fake.estimate(spec, 0)
    assert estimate.idle == (40 << 20) + (100 << 20)
    assert estimate.activation == (4 << 20) + 3 * (10 << 20)


def test_sleep_and_wake_take_the_configured_time() -> None:
    engine = fake(idle=64 << 20, sleep_resident=8 << 20, sleep_seconds=0.02, wake_seconds=0.01, load_seconds=0.03)
    loaded = resident_bytes()
    began = time.monotonic()
    assert engine.sleep(), "it keeps something, so that it is woken and not loaded anew"
    assert time.monotonic() - began >= 0.02
    asleep = resident_bytes()
    assert loaded - asleep > 50 << 20
    assert isinstance(engine._memory, bytearray)
    assert len(engine._memory) == 8 << 20
    began = time.monotonic()
    engine.wake()
    assert time.monotonic() - began >= 0.01
    assert resident_bytes() - asleep > 50 << 20
    assert answer(engine, Task.CHAT, CHAT)["usage"]


def test_a_wake_takes_as_long_as_a_load_unless_told_otherwise() -> None:
    engine = fake(load_seconds=0.05)
    engine.sleep()
    began = time.monotonic()
    engine.wake()
    assert time.monotonic() - began >= 0.05


def test_configured_failures_of_sleep_and_wake_happen() -> None:
    with pytest.raises(RuntimeError):
        fake(fail="sleep").sleep()
    engine = fake(fail="wake")
    assert engine.sleep()
    with pytest.raises(MemoryError):
        engine.wake()
    assert Fake.units(request_of(Task.CHAT, CHAT)) == 0

"""Streamed pieces become plain answers, and lose what only llama.cpp would send."""

from typing import Any

import pytest

from cohabit.engines.llamacpp.aggregate import Aggregate
from cohabit.engines.llamacpp.tool_calls import Offer


def piece(
    delta: dict[str, Any] | None = None, *, index: int = 0, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """One of llama.cpp's."""
    choice = {"index": index, "finish_reason": finish, "delta": delta or {}}
    return {"id": "c1", "created": 5, "model": "file.gguf", "choices": [choice], **more}


def whole(*pieces: dict[str, Any]) -> dict[str, Any]:
    """What they add up to."""
    assembly = Aggregate("llm", chat=True)
    for one in pieces:
        assembly.add(one)
    return assembly.whole()


USAGE = {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}}


def test_text_usage_and_finish_reason_are_aggregated() -> None:
    answer = whole(
        piece({"role": "assistant", "content": None}),
        piece({"content": "Hel"}),
        piece({"content": "lo"}),
        piece(finish="stop"),
        USAGE,
    )
    assert answer == {
        "id": "c1",
        "created": 5,
        "object": "chat.completion",
        "model": "llm",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": "Hello"},
            }
        ],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
    }


def test_choices_are_aggregated_separately() -> None:
    answer = whole(piece({"content": "a"}, index=1), piece({"content": "b"}), piece({"content": "c"}, index=1))
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["b", "ac"]


def test_tool_calls_are_aggregated() -> None:
    def call(index: int, **fields: Any) -> dict[str, Any]:
        return piece({"tool_calls": [{"index": index, **fields}]})

    answer = whole(
        call(0, id="x", type="function", function={"name": "f", "arguments": '{"a"'}),
        call(0, function={"arguments": ": 1}"}),
        call(1, id="y", type="function", function={"name": "g", "arguments": "{}"}),
        piece(finish="tool_calls"),
    )
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "y", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def entry(token: str, logprob: float, *others: str) -> dict[str, Any]:
    """A token with what else was likely, as llama.cpp tells of it."""
    likely = [{"id": 1, "token": one, "bytes": [97], "logprob": -0.5} for one in others]
    return {"id": 1, "token": token, "bytes": [97], "logprob": logprob, "top_logprobs": likely}


def test_logprobs_and_reasoning_are_kept() -> None:
    assembly = Aggregate("llm", chat=True, logprobs=1)
    for token in ("a", "b"):
        one = piece({"content": token, "reasoning_content": "hm"})
        one["choices"][0]["logprobs"] = {"content": [entry(token, -1.0, "x", "y")]}
        assembly.add(one)
    choice = assembly.whole()["choices"][0]
    likely = {"token": "x", "bytes": [97], "logprob": -0.5}
    assert choice["logprobs"]["content"] == [
        {"token": token, "bytes": [97], "logprob": -1.0, "top_logprobs": [likely]} for token in ("a", "b")
    ]
    assert choice["message"]["reasoning_content"] == "hmhm"


def test_unrequested_logprobs_are_left_out() -> None:
    one = piece({"content": "a"})
    one["choices"][0]["logprobs"] = {"content": [entry("a", -1.0)]}
    assert whole(one)["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(("most", "likeliest"), [(0, None), (1, [{"x": -0.5, "ab": -1.0}, {"x": -0.5, "c": -1.0}])])
def test_logprobs_of_a_completion_are_lists_beside_each_other(most: int, likeliest: Any) -> None:
    assembly = Aggregate("llm", chat=False, logprobs=most)
    for token in ("ab", "c"):
        logprobs = {"content": [entry(token, -1.0, "x", "y")]}
        assembly.add({"choices": [{"index": 0, "text": token, "logprobs": logprobs, "finish_reason": None}]})
    assert assembly.whole()["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-1.0, -1.0],
        "top_logprobs": likeliest,
        "text_offset": [0, 2],
    }


def test_a_prompt_is_echoed_once_before_each_of_its_answers() -> None:
    assembly = Aggregate("llm", chat=False, choices=2, echoed=["P", "Q"])
    for index in (0, 1, 2, 3, 0):
        assembly.add({"choices": [{"index": index, "text": "x", "finish_reason": None}]})
    assert [choice["text"] for choice in assembly.whole()["choices"]] == ["Pxx", "Px", "Qx", "Qx"]


def test_tool_calls_are_parsed_and_empty_chunks_dropped() -> None:
    assembly = Aggregate("llm", chat=True, offer=Offer(({"name": "f"},), forced=True))
    sent = [assembly.add(piece({"content": text})) for text in ('{"name": ', '"f", "arguments": {', "}", "}")]
    sent.append(assembly.add(piece(finish="stop")))
    assert [one is not None for one in sent] == [False, True, True, True, True]
    choice = assembly.whole()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert assembly.tokens == 4


def test_chunks_have_openais_shape() -> None:
    assembly = Aggregate("llm", chat=True)
    assert assembly.add(piece({"content": None}, prompt_progress={"total": 1})) is None
    first = assembly.add(piece({"role": "assistant", "content": None}, timings={"x": 1}))
    assert first is not None
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["model"] == "llm"
    assert "timings" not in first
    assert assembly.add(dict(USAGE)) is None, "usage goes out once, at the end, if asked for"
    assert assembly.usage_chunk()["usage"]["total_tokens"] == 5
    assert assembly.tokens == 0


def test_a_prompt_counts_once_however_many_choices_it_has() -> None:
    completions = Aggregate("llm", chat=False, choices=2)
    for index in (0, 1, 2, 3):
        completions.add({"choices": [{"index": index, "text": "x", "finish_reason": None}]})
        completions.add({"choices": [{"index": index, "text": "", "finish_reason": "stop"}], "usage": USAGE["usage"]})
    answer = completions.whole()
    assert [choice["text"] for choice in answer["choices"]] == ["x"] * 4
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
    assert completions.tokens == 4
    assert whole(USAGE, USAGE)["usage"] == {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}

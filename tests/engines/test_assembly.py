"""Streamed pieces become plain answers, and lose what only llama.cpp would send."""

from typing import Any

from cohabit.engines.assembly import Assembly


def piece(
    delta: dict[str, Any] | None = None, *, index: int = 0, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """One of llama.cpp's."""
    choice = {"index": index, "finish_reason": finish, "delta": delta or {}}
    return {"id": "c1", "created": 5, "model": "file.gguf", "choices": [choice], **more}


def whole(*pieces: dict[str, Any]) -> dict[str, Any]:
    """What they add up to."""
    assembly = Assembly("llm", chat=True)
    for one in pieces:
        assembly.add(one)
    return assembly.whole()


USAGE = {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}}


def test_text_usage_and_the_reason() -> None:
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


def test_several_choices_keep_apart() -> None:
    answer = whole(piece({"content": "a"}, index=1), piece({"content": "b"}), piece({"content": "c"}, index=1))
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["b", "ac"]


def test_tool_calls_are_put_together() -> None:
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


def test_logprobs_and_reasoning_are_kept() -> None:
    logprob = {"token": "a", "logprob": -1.0}
    one = piece({"content": "a", "reasoning_content": "hm"})
    one["choices"][0]["logprobs"] = {"content": [logprob]}
    two = piece({"content": "b", "reasoning_content": "m"})
    two["choices"][0]["logprobs"] = {"content": [logprob]}
    choice = whole(one, two)["choices"][0]
    assert choice["logprobs"]["content"] == [logprob, logprob]
    assert choice["message"]["reasoning_content"] == "hmm"


def test_what_goes_out_is_as_openai_would_send_it() -> None:
    assembly = Assembly("llm", chat=True)
    assert assembly.add(piece({"content": None}, prompt_progress={"total": 1})) is None
    first = assembly.add(piece({"role": "assistant", "content": None}, timings={"x": 1}))
    assert first is not None
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["model"] == "llm"
    assert "timings" not in first
    assert assembly.add(dict(USAGE)) is None, "usage goes out once, at the end, if asked for"
    assert assembly.usage_chunk()["usage"]["total_tokens"] == 5
    assert assembly.tokens == 0


def test_completions_sum_the_usage_of_their_choices() -> None:
    assembly = Assembly("llm", chat=False)
    for index in (0, 1):
        assembly.add({"choices": [{"index": index, "text": "x", "finish_reason": None}]})
        assembly.add({"choices": [{"index": index, "text": "", "finish_reason": "stop"}], "usage": USAGE["usage"]})
    answer = assembly.whole()
    assert [choice["text"] for choice in answer["choices"]] == ["x", "x"]
    assert answer["usage"]["completion_tokens"] == 6
    assert assembly.tokens == 2

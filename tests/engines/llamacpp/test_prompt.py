"""Texts that the tokenizer would not survive, or not in time, are refused before it sees them."""

import time
from typing import Any

import pytest

from cohabit.engines.llamacpp.gguf_header import Vocabulary
from cohabit.engines.llamacpp.prompt import LARGE_STACK, MAX_CONTROL, MAX_RUN, Prompts, longest_run
from cohabit.engines.per_item import BadItem

END = "<|im_end|>"
prompts = Prompts(100_000, Vocabulary(longest=16, control=("<|im_start|>", END)))


def chat(text: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(
    ("text", "stack"),
    [
        ("", 0),
        ("word " * 100_000, 0),
        ("a" * 3000, 0),
        ("0aF+" * 30_000, 0),
        ("這是一句話。" * 50_000, 0),
        ("a" * MAX_RUN, LARGE_STACK),
        (" " * (MAX_RUN - 1), LARGE_STACK),  # texts of one prompt are joined by a line's end
        ("a\u0301" * (MAX_RUN // 2), LARGE_STACK),
        (END * MAX_CONTROL, 0),
    ],
)
def test_a_long_run_has_a_large_stack(text: str, stack: int) -> None:
    assert prompts.stack(chat(text)) == prompts.stack(chat([{"type": "text", "text": text}])) == stack
    assert prompts.stack({"prompt": ["", text]}) == stack


@pytest.mark.parametrize(
    "text",
    [
        "a" * (MAX_RUN + 1),
        "é" * (MAX_RUN + 1),
        " " * (MAX_RUN + 1),
        "-" * (MAX_RUN + 1),
        "a\u0301" * (MAX_RUN // 2 + 1),
        END * (MAX_CONTROL + 1),
        "word " * 320_001,
        "é" * 800_001,
    ],
)
def test_dangerous_or_too_long_prompt_is_refused(text: str) -> None:
    began = time.thread_time()
    for body in (chat(text), {"prompt": text}, {"prompt": ["", text]}):
        with pytest.raises(BadItem) as refused:
            prompts.stack(body)
        error = refused.value.error(1)
        assert (error.status, error.code, error.param) == (400, "context_length_exceeded", next(iter(body)))
    assert time.thread_time() - began < 2.0


def test_pictures_do_not_count_as_text() -> None:
    assert prompts.stack(chat([{"type": "image_url", "image_url": {"url": "a" * 10**7}}])) == 0


def test_runs_are_of_one_kind() -> None:
    assert [longest_run(text) for text in ("", "ab1234c", "ab--- c", "a \n\t b", "äb́c")] == [0, 4, 3, 4, 4]


def test_all_turns_count_together() -> None:
    """The template makes one text of them, so that its control tokens add up."""
    turn = {"role": "user", "content": END * 300}
    for body in ({"messages": [turn] * 20}, {"messages": [{"role": "user", "content": [turn] * 20}]}):
        with pytest.raises(BadItem, match="control tokens"):
            prompts.stack(body)
    assert prompts.stack({"prompt": [END * 300] * 20}) == 0  # each is a text of its own

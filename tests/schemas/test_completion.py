"""Plain completions."""

from typing import Any

import msgspec
import pytest
from msgspec import ValidationError

from cohabit.schemas.chat import CompletionRequest


def completion(prompt: Any, **fields: Any) -> CompletionRequest:
    return msgspec.convert({"model": "llm", "prompt": prompt, **fields}, CompletionRequest)


@pytest.mark.parametrize(
    ("prompt", "size"), [("Once", 4), ("", 0), (["é", "b"], 3), ([1, 2, 3], 0), ([[1], [2, 3]], 0)]
)
def test_valid_prompts_are_accepted(prompt: Any, size: int) -> None:
    assert completion(prompt).text_bytes() == size


@pytest.mark.parametrize(
    "prompt",
    [None, 1, [], [[]], [-1], [2**31], [1.5], ["a"] * 65, [["a"]], {}, ["a", 7], [7, "a"], [[1], 2], [[1]] * 65],
)
def test_invalid_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(ValidationError):
        completion(prompt)


def test_fields_are_bounded() -> None:
    assert completion("a", logprobs=5, echo=True, suffix="b", best_of=2, temperature=1).temperature == 1
    with pytest.raises(ValidationError):
        completion("a", logprobs=6)

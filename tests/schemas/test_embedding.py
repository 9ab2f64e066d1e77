"""Embeddings."""

from typing import Any

import msgspec
import pytest
from msgspec import ValidationError

from cohabit.schemas.embedding import EmbeddingRequest


def embedding(texts: Any, **fields: Any) -> EmbeddingRequest:
    return msgspec.convert({"model": "embeddings", "input": texts, **fields}, EmbeddingRequest)


@pytest.mark.parametrize(
    ("texts", "size"), [("hello", 5), (["é", "b"], 3), (["a"] * 2048, 2048), ([1, 2], 0), ([[1], [2]], 0)]
)
def test_valid_inputs_are_accepted(texts: Any, size: int) -> None:
    assert embedding(texts).text_bytes() == size


@pytest.mark.parametrize("texts", [None, "", [], [""], ["a", ""], ["a"] * 2049, [[]], [1.5], ["a", 1]])
def test_invalid_inputs_are_refused(texts: Any) -> None:
    with pytest.raises(ValidationError):
        embedding(texts)


def test_fields_are_bounded() -> None:
    assert embedding("a", encoding_format="base64", dimensions=8).dimensions == 8
    for wrong in ({"encoding_format": "int8"}, {"dimensions": 0}):
        with pytest.raises(ValidationError):
            embedding("a", **wrong)

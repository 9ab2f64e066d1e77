"""``/v1/embeddings``. Source: OpenAI's API reference, "Create embeddings"."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from cohabit.schemas.base import Body, Token, Tokens, check_texts, size, texts_schema

MAX_TEXTS = 2048
Text = Annotated[str, Meta(min_length=1)]


class EmbeddingRequest(Body, kw_only=True):
    """Texts to turn into vectors."""

    input: Annotated[
        Text | Annotated[list[Text | Token | Tokens], Meta(min_length=1, max_length=1 << 20)],
        Meta(extra_json_schema=texts_schema(MAX_TEXTS, min_length=1)),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: (
        Annotated[int, Meta(ge=1, le=65536, description="Shorter vectors, of models that were trained for it.")]
        | None
    ) = None

    def __post_init__(self) -> None:
        check_texts("input", self.input, MAX_TEXTS)

    def text_bytes(self) -> int:
        """Text of all inputs."""
        texts = self.input if isinstance(self.input, list) else [self.input]
        return sum(size(text) for text in texts if isinstance(text, str))


class Embedding(Struct, kw_only=True):
    """Of one input."""

    object: Literal["embedding"]
    index: int
    embedding: Annotated[
        list[float] | str, Meta(description="Numbers, or with `base64` 32-bit floats, little-endian.")
    ]


class EmbeddingUsage(Struct, kw_only=True):
    """Tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(Struct, kw_only=True):
    """A vector for every input, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage

"""``/v1/embeddings``. Source: OpenAI's API reference, "Create embeddings"."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cohabit.schemas.body import Body, Tokens, size

Texts = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=2048, fail_fast=True)]


class EmbeddingRequest(Body):
    """Texts to turn into vectors."""

    input: (
        Annotated[str, Field(min_length=1)]
        | Texts
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=2048, fail_fast=True)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(
        None, ge=1, le=65_536, description="Shorter vectors, of models that were trained for it."
    )

    def text_bytes(self) -> int:
        """Text of all inputs."""
        texts = self.input if isinstance(self.input, list) else [self.input]
        return sum(size(text) for text in texts if isinstance(text, str))


class Embedding(BaseModel):
    """Of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="Numbers, or with `base64` 32-bit floats, little-endian.")


class EmbeddingUsage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingAnswer(BaseModel):
    """A vector for every input, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage

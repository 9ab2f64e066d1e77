"""``/v1/embeddings``. Source: OpenAI's API reference, "Create embeddings"."""

from typing import Annotated, Literal

from pydantic import Field

from cohabit.openai.body import Body, Tokens, size

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
    dimensions: int | None = Field(None, ge=1)

    def text_bytes(self) -> int:
        """Text of all inputs."""
        texts = self.input if isinstance(self.input, list) else [self.input]
        return sum(size(text) for text in texts if isinstance(text, str))

"""``/v1/completions``. Source: OpenAI's API reference, "Create completion"."""

from typing import Annotated

from pydantic import Field

from cohabit.schemas.body import Tokens, size
from cohabit.schemas.chat import Sampling


class CompletionRequest(Sampling):
    """Text to go on with."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=64, fail_fast=True)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=64, fail_fast=True)]
    )
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = Field(None, ge=1, le=16)

    def text_bytes(self) -> int:
        """Text of all prompts."""
        prompts = self.prompt if isinstance(self.prompt, list) else [self.prompt]
        return sum(size(prompt) for prompt in prompts if isinstance(prompt, str))

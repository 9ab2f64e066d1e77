"""The one shape of every error."""

from pydantic import BaseModel, Field


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(description="What happened and what would do. Never holds what was sent.")
    type: str
    param: str | None = Field(None, description="The field it is about.")
    code: str | None = Field(None, description="Stable, for programs.")


class ErrorResponse(BaseModel):
    """OpenAI's envelope."""

    error: ErrorBody

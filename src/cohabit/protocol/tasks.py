"""The kinds of work a model can do."""

from enum import StrEnum


class Task(StrEnum):
    """One kind of work; each has one OpenAI request body that travels to the engine as it came."""

    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"
    SPEAK = "speak"
    TRANSCRIBE = "transcribe"
    DESCRIBE = "describe"
    RERANK = "rerank"

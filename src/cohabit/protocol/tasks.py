"""The kinds of work a model can do."""

from enum import StrEnum


class Task(StrEnum):
    """One kind of work; each has one OpenAI request body that travels to the engine as it came.

    OpenAI has none for RERANK: it is Jina's and Cohere's ``{"model", "query", "documents": [str, ...]}``, answered by
    ``{"results": [{"index", "relevance_score"}, ...], "usage": {"total_tokens"}}`` with one result a document in any
    order, scores from 0 to 1. A TRANSCRIBE body is the form's fields without the file, which is the blob ``file``,
    and has ``"task": "translate"`` where English is wanted whatever was spoken.
    """

    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"
    SPEAK = "speak"
    TRANSCRIBE = "transcribe"
    DESCRIBE = "describe"
    RERANK = "rerank"


NEVER_STREAMED = frozenset({Task.EMBED, Task.RERANK})
"""Their answers go to clients whole."""

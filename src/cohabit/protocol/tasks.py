"""What a model can do: its tasks, and its capabilities beside them."""

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


class Capability(StrEnum):
    """A request that needs one is refused by a model without it, never answered as if it had not asked.

    The value completes the sentence "the model cannot ...". SAMPLING alone refuses nothing: clients send it with
    whatever they ask, so they only get a warning.
    """

    TOOLS = "call tools"
    SCHEMA = "answer in a given format"
    LOGPROBS = "give log probabilities"
    CHOICES = "give several answers to one request"
    BEST_OF = "choose the best of several answers"
    STOP = "stop at given words"
    ECHO = "repeat the prompt before its answer"
    INFILL = "write towards a suffix"
    SAMPLING = "be told how to choose its words"  # temperature, top_p, penalties, biases, seed
    TRANSLATE = "translate speech"
    SHORTEN = "shorten its vectors"
    WORD_TIMES = "tell when each word was said"

"""What some models of a task can do and others cannot."""

from enum import StrEnum


class Ability(StrEnum):
    """A request that needs one is refused by a model without it, never answered as if it had not asked.

    The value completes the sentence "the model cannot ...".
    """

    TOOLS = "call tools"
    SCHEMA = "answer in a given format"
    LOGPROBS = "give log probabilities"
    CHOICES = "give several answers to one request"
    SAMPLING = "be told how to choose its words"  # temperature, top_p, penalties, biases, seed, stop
    TRANSLATE = "translate speech"
    WORD_TIMES = "tell when each word was said"

"""What some models of a task can do and others cannot."""

from enum import StrEnum


class Ability(StrEnum):
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

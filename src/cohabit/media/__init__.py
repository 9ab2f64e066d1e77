"""Pictures and sound that clients send: how an inspector opens them, and how a worker opens what that has made.

Pillow and PyAV are imported where they are needed, so that a server without such models never loads them.
"""


class Unreadable(ValueError):
    """The input cannot be used. The text completes a sentence, says what to do, and never quotes the input."""

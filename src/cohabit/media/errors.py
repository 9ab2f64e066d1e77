"""What is wrong with something a client sent."""


class Unreadable(ValueError):
    """It cannot be taken. The text says why and what would do, as the end of a sentence, and quotes nothing."""

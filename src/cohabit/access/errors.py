"""What can be wrong with keys."""


class KeysError(Exception):
    """The file of keys cannot be used, or not for what was asked; one line that says what to do."""

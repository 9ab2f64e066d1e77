"""What goes wrong with keys."""


class BrokenKeys(Exception):
    """The file of keys cannot be read; the text says which and why."""

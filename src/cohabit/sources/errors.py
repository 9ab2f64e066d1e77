"""What goes wrong with a source.

SourceError
└── FetchCancelled
"""


class SourceError(Exception):
    """A source cannot be used. The text is one line: what is wrong and what would do."""


class FetchCancelled(SourceError):
    """Whoever asked for it no longer wants it; nothing of it was kept."""

"""What the operator writes down: YAML, every field typed, documented and defaulted."""


class ConfigError(Exception):
    """The config cannot be used. One line: where, what, and what to do."""

"""What goes wrong with a config."""


class ConfigError(Exception):
    """The config cannot be used. One line: where, what, and what would do."""

"""Durations as moving averages of what was measured."""


class Ewma:
    """An exponentially weighted mean; the first measurement replaces the guess."""

    def __init__(self, guess: float, *, weight: float = 0.3) -> None:
        """``weight`` is the share of the newest measurement."""
        self.value = guess
        self.measured = False
        self._weight = weight

    def add(self, seconds: float) -> None:
        """Take a measurement in."""
        if self.measured:
            self.value += self._weight * (seconds - self.value)
        else:
            self.value = seconds
            self.measured = True

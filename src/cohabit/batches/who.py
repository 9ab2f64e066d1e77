"""Whose files and batches."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """Without keys everything is everybody's, and an admin sees what belongs to others."""

    name: str  # of a key; empty where there are none
    sees_all: bool

    @property
    def sees(self) -> str | None:
        """Whose; None for everybody's."""
        return None if self.sees_all else self.name

"""The one pending bring-in of a device. Bytes that come free accrue to it, so two never hold and wait."""

from dataclasses import dataclass

from cohabit.core.exits import Exit


@dataclass(slots=True)
class Claim:
    """Room is being made for ``model``, to load it or, if it is ready, to let it run."""

    model: str
    since: float
    need: int  # bytes it must be able to book on top of what it holds
    victims: dict[int, Exit]  # workers that make room for it, idle already or draining
    why: str

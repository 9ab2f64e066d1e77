"""For engines that answer one request after the other: a bad one fails alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cohabit.protocol.engine import EngineRequest, ItemError, Output


class BadItem(Exception):
    """A request that this engine refuses. The text says why and what would do, and quotes nothing."""

    def __init__(self, message: str, *, param: str, code: str = "invalid_request") -> None:
        """``param`` names the field."""
        super().__init__(message)
        self._param = param
        self._code = code

    def error(self, request: int) -> ItemError:
        """As what its client is told."""
        return ItemError(request, str(self), code=self._code, param=self._param)


@contextmanager
def opening(param: str, what: str) -> Iterator[None]:
    """Round the opening of what a client sent: whatever a library finds wrong with it is the client's to mend.

    ``what`` it is, such as "the sound". Not for running the model, whose errors are ours. Raises BadItem, and
    MemoryError as it comes.
    """
    try:
        yield
    except (BadItem, MemoryError):
        raise
    except Exception as error:
        message = f"{what} cannot be opened; save it again, or send it in another format"
        raise BadItem(message, param=param) from error


def singly(
    batch: Sequence[EngineRequest],
    answer: Callable[[EngineRequest], Iterator[Output]],
    after: Callable[[], object] = lambda: None,
) -> Iterator[Output]:
    """Answers in turn; ``after`` is called after each, however it ended."""
    for request in batch:
        try:
            yield from answer(request)
        except BadItem as bad:
            yield bad.error(request.id)
        finally:
            after()

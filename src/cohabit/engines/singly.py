"""For engines that answer one request after the other: a bad one fails alone."""

from collections.abc import Callable, Iterator, Sequence

from cohabit.protocol.engine import ItemError, Output, Request


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


def singly(
    batch: Sequence[Request],
    answer: Callable[[Request], Iterator[Output]],
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

"""The store of files and batches behind this app, and its errors as HTTP."""

import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request

from cohabit.access.keys import Principal
from cohabit.api.context import key_of
from cohabit.api.errors import ApiError, NotFound
from cohabit.batches.errors import Conflict, Left, Missing, StorageError, TooMuch, Trouble

if TYPE_CHECKING:
    from cohabit.batches.store import BatchStore

_STATUS = {Trouble.FULL: 507, Trouble.BUSY: 503, Trouble.UNREACHABLE: 503}
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


async def store_of(request: Request) -> "BatchStore":
    """It is opened by whoever wants it first, who waits a moment. Raises NotFound where there is none."""
    opening: Awaitable[BatchStore] | None = request.app.state.store
    if opening is None:
        raise NotFound("this server keeps no files and batches", code="no_storage")
    return await opening


def who_asks(request: Request) -> Principal:
    """Whose files and batches are meant."""
    key = key_of(request)
    return Principal("", sees_all=True) if key is None else Principal(key.name, sees_all=key.admin)


@contextmanager
def store_errors() -> Iterator[None]:
    """Round the use of the store. Raises ApiError."""
    try:
        yield
    except Missing as error:
        raise NotFound(f"{error}, or it has been erased", code=f"{error.what}_not_found") from None
    except Conflict as error:
        raise ApiError(409, str(error), code=error.code) from None
    except TooMuch as error:
        raise ApiError(413, str(error), code="too_much_stored") from None
    except Left:
        raise ClientDisconnect from None
    except StorageError as error:
        status = _STATUS[error.trouble]
        raise ApiError(status, str(error), kind="server_error", code=error.trouble, retry_after=5.0) from None


@asynccontextmanager
async def open_store(request: Request) -> "AsyncIterator[tuple[BatchStore, Principal]]":
    """The store, and who asks something of it. Raises ApiError, also for what goes wrong inside."""
    store = await store_of(request)
    with store_errors():
        yield store, who_asks(request)


def checked_id(text: str, what: str) -> str:
    """An id as it may be. Raises Missing, since nothing has another."""
    if _ID.fullmatch(text) is None:
        raise Missing(what)
    return text

"""``/v1/batches``: files of requests that are answered when the device has nothing better to do."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from cohabit.api.answers import warn
from cohabit.api.errors import BadRequest
from cohabit.api.fields import received
from cohabit.api.openapi import body_of, only
from cohabit.api.routes.files import After
from cohabit.api.storage import asked, named
from cohabit.batches.errors import Conflict, Missing
from cohabit.schemas.batches import Batch, BatchList, BatchRequest
from cohabit.schemas.files import Deleted

router = APIRouter(tags=["batches"], prefix="/v1/batches", responses=only(404, 503))


@router.post("", openapi_extra=body_of(BatchRequest, waits=False), responses=only(413, 507))
async def create_batch(request: Request, response: Response) -> Batch:
    """Have every line of a file answered. It survives the server, and gives way to whoever waits for an answer."""
    taken = await received(BatchRequest, request)
    warn(response, taken.drop_others())
    async with asked(request) as (store, who):
        try:
            return await store.create(who, taken.body)
        except Missing:
            message = "there is no such file, or it has been erased; send it to /v1/files first"
            raise BadRequest(message, param="input_file_id", code="file_not_found") from None
        except Conflict as error:
            raise BadRequest(str(error), param="input_file_id", code=error.code) from None


@router.get("")
async def list_batches(
    request: Request, after: After = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> BatchList:
    """All of them, the newest first."""
    async with asked(request) as (store, who):
        return await store.batches(who, after=after, limit=limit)


@router.get("/{batch_id}")
async def get_batch(request: Request, batch_id: str) -> Batch:
    """How far a batch is."""
    async with asked(request) as (store, who):
        return await store.batch(who, named(batch_id, "batch"))


@router.post("/{batch_id}/cancel", responses=only(409))
async def cancel_batch(request: Request, batch_id: str) -> Batch:
    """Begin no more lines. What has been answered is in the output file."""
    async with asked(request) as (store, who):
        return await store.cancel(who, named(batch_id, "batch"))


@router.delete("/{batch_id}", responses=only(409))
async def delete_batch(request: Request, batch_id: str) -> Deleted:
    """Erase a batch that has ended, with the files it made. The file it read stays."""
    async with asked(request) as (store, who):
        await store.erase_batch(who, named(batch_id, "batch"))
    return Deleted(id=batch_id, object="batch")

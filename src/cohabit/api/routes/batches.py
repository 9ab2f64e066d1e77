"""``/v1/batches``: files of requests that are answered when the device has nothing better to do."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.errors import BadRequest
from cohabit.api.fields import read_fields
from cohabit.api.openapi import only
from cohabit.api.routes.files import After
from cohabit.api.routing import Router, json_response, query_of
from cohabit.api.storage import checked_id, open_store
from cohabit.api.submission import warn
from cohabit.batches.errors import Conflict, Missing
from cohabit.schemas.batches import Batch, BatchList, BatchRequest
from cohabit.schemas.files import Deleted

router = Router("batches", only(404, 503), prefix="/v1/batches")


class ListBatches(msgspec.Struct):
    after: After = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


@router.post("", body=BatchRequest, waits=False, answer=Batch, responses=only(413, 507))
async def create_batch(request: Request) -> Response:
    """Have every line of a file answered. It survives the server, and gives way to whoever waits for an answer."""
    validated = await read_fields(BatchRequest, request)
    warning = validated.drop_others()
    async with open_store(request) as (store, principal):
        try:
            response = json_response(await store.create(principal, validated.body))
        except Missing:
            message = "there is no such file, or it has been erased; send it to /v1/files first"
            raise BadRequest(message, param="input_file_id", code="file_not_found") from None
        except Conflict as error:
            raise BadRequest(str(error), param="input_file_id", code=error.code) from None
    warn(response, warning)
    return response


@router.get("", answer=BatchList, query=ListBatches)
async def list_batches(request: Request) -> Response:
    """All of them, the newest first."""
    query = query_of(request, ListBatches)
    async with open_store(request) as (store, principal):
        return json_response(await store.batches(principal, after=query.after, limit=query.limit))


@router.get("/{batch_id}", answer=Batch)
async def get_batch(request: Request) -> Response:
    """How far a batch is."""
    async with open_store(request) as (store, principal):
        return json_response(await store.batch(principal, _batch_id(request)))


@router.post("/{batch_id}/cancel", answer=Batch, responses=only(409))
async def cancel_batch(request: Request) -> Response:
    """Begin no more lines. What has been answered is in the output file."""
    async with open_store(request) as (store, principal):
        return json_response(await store.cancel(principal, _batch_id(request)))


@router.delete("/{batch_id}", answer=Deleted, responses=only(409))
async def delete_batch(request: Request) -> Response:
    """Erase a batch that has ended, with the files it made. The file it read stays."""
    async with open_store(request) as (store, principal):
        batch_id = _batch_id(request)
        await store.erase_batch(principal, batch_id)
    return json_response(Deleted(id=batch_id, object="batch"))


def _batch_id(request: Request) -> str:
    return checked_id(request.path_params["batch_id"], "batch")

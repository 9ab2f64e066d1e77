"""``/inference``: one route for every task."""

from typing import Annotated, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.bodies import read
from cohabit.api.fields import apart
from cohabit.api.inference_tasks import item_of, prepare
from cohabit.api.media.media_inputs import attended, media_of
from cohabit.api.middleware.disconnects import CLIENT_GONE
from cohabit.api.openapi import ERRORS
from cohabit.api.routing import Router, query_of
from cohabit.api.submission import collect, submit, timings
from cohabit.schemas.inference import DATA, RESULTS, InferenceRequest, Kind

router = Router("inference", ERRORS)


class InferenceQuery(msgspec.Struct):
    """A text, so that an error in it reads like one of the field ``type``."""

    request_type: Annotated[
        str | None,
        Meta(description="Then the body is the data.", extra_json_schema={"enum": get_args(Kind)}),
    ] = None


@router.post("/inference", body=(InferenceRequest, *DATA), answer=RESULTS, query=InferenceQuery)
async def inference(request: Request) -> Response:
    """Chat, describe a picture, embed, speak or transcribe. With ``?request_type=`` the body is the data alone."""
    request_type = query_of(request, InferenceQuery).request_type
    raw = await read(request)
    item = await apart(len(raw), lambda: item_of(raw, request_type))
    work = await attended(request, prepare(media_of(request), item))
    answer = submit(request, work.model, work.task, work.body, blobs=work.blobs)
    answered = await collect(request, answer)
    if answered is None:
        return Response(status_code=CLIENT_GONE)
    headers = timings(answer, run=True, warning=work.warning)
    return Response(msgspec.json.encode(work.result(answered)), media_type="application/json", headers=headers)

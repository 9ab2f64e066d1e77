"""``/inference``: one route for every task."""

from typing import Annotated, get_args

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import WithJsonSchema

from cohabit.api.answers import collect, submit, timings
from cohabit.api.bodies import read
from cohabit.api.fields import apart
from cohabit.api.inference_tasks import item_of, understood
from cohabit.api.media.media_inputs import attended, media_of
from cohabit.api.middleware.disconnects import CLIENT_GONE
from cohabit.api.openapi import ERRORS, Responses, body_of
from cohabit.schemas.inference import Data, InferenceRequest, Kind, Result

_RESULT: Responses = {200: {"model": Result}}
_BODY = body_of(InferenceRequest, *get_args(Data))
# A text to FastAPI, so that what is wrong with it is said like of any other field.
_Kind = Annotated[
    str | None, WithJsonSchema({"enum": get_args(Kind)}), Query(description="Then the body is the data.")
]
router = APIRouter(tags=["inference"], responses={**_RESULT, **ERRORS})


@router.post("/inference", openapi_extra=_BODY)
async def inference(request: Request, request_type: _Kind = None) -> Response:
    """Chat, describe a picture, embed, speak or transcribe. With ``?request_type=`` the body is the data alone."""
    raw = await read(request)
    item = await apart(len(raw), lambda: item_of(raw, request_type))
    work = await attended(request, understood(media_of(request), item))
    answer = submit(request, work.model, work.task, work.body, blobs=work.blobs)
    found = await collect(request, answer)
    if found is None:
        return Response(status_code=CLIENT_GONE)
    headers = timings(answer, run=True, warning=work.warning)
    return Response(msgspec.json.encode(work.result(found)), media_type="application/json", headers=headers)

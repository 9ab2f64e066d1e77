"""Lines of output and error files. Source: OpenAI's API reference, "The request output object"."""

from dataclasses import dataclass

import msgspec

from cohabit.batches.asgi_client import AppResponse
from cohabit.batches.schema import ANSWERED, FAILED


@dataclass(frozen=True, slots=True)
class LineResult:
    """What has become of a line: once written down it stays so."""

    number: int
    state: str  # ANSWERED or FAILED
    line: bytes  # with its end


def answered(batch_id: str, number: int, custom_id: str, said: AppResponse) -> LineResult:
    """The server's answer to it, an error too."""
    body = msgspec.json.format(said.body, indent=-1) if b"\n" in said.body else said.body
    response = {"status_code": said.status, "request_id": said.request_id, "body": msgspec.Raw(body)}
    if said.warning is not None:
        response["warning"] = said.warning
    return LineResult(
        number, ANSWERED if said.status < 400 else FAILED, _line(batch_id, number, custom_id, response, None)
    )


def failed(batch_id: str, number: int, custom_id: str | None, code: str, message: str) -> LineResult:
    """It was not asked, or not answered in time."""
    error = {"code": code, "message": message}
    return LineResult(number, FAILED, _line(batch_id, number, custom_id, None, error))


def _line(batch_id: str, number: int, custom_id: str | None, response: object, error: dict[str, str] | None) -> bytes:
    name = f"batch_req_{batch_id.removeprefix('batch_')}_{number}"
    return msgspec.json.encode({"id": name, "custom_id": custom_id, "response": response, "error": error}) + b"\n"

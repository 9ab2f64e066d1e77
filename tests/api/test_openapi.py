"""The OpenAPI document is complete, and docs/api.md says what the code does."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette

from api.fake_service import CHAT, FakeService, as_asked, failing, rejected
from cohabit.api import errors
from cohabit.api.errors import REASONS
from cohabit.api.http.connections import LIMITS
from cohabit.api.media.media_fetch import MAX_REDIRECTS
from cohabit.api.media.media_inputs import MAX_ADDRESSES, MAX_PICTURES
from cohabit.api.openapi import ERRORS, EVERYWHERE, HEADERS
from cohabit.api.routing import Endpoint
from cohabit.api.streams import STREAM_TIMEOUTS
from cohabit.api.uploads import MAX_UPLOAD
from cohabit.batches.errors import Trouble
from cohabit.config.load import load_config
from cohabit.core.admin import AdminRefusal
from cohabit.core.commands import RejectReason
from cohabit.inspector.pieces import CPU_SECONDS, MEMORY, SOUND_SECONDS
from cohabit.media.audio import HIGHEST_RATE, LOWEST_RATE, MAX_CHANNELS, MAX_SECONDS
from cohabit.media.images import MAX_CHUNKS, MAX_PIXELS, MAX_SCANNED, MAX_SCANS
from cohabit.runtime.admin import Ending
from cohabit.runtime.inspectors import MAX_WAITING, WALL_SECONDS
from cohabit.runtime.service import BYTES_A_TOKEN, MAX_TEXT
from cohabit.schemas.base import MAX_BODY
from cohabit.schemas.inference import MAX_ITEMS
from cohabit.schemas.rerank import MAX_DOCUMENTS
from cohabit.schemas.speech import MAX_CHARACTERS
from cohabit.schemas.transcription import TranscriptionRequest, TranslationRequest

DOCS = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
SOURCES = Path(errors.__file__).parent
BODIES = {
    "/v1/chat/completions": "ChatRequest",
    "/v1/completions": "CompletionRequest",
    "/v1/responses": "ResponseRequest",
    "/v1/embeddings": "EmbeddingRequest",
    "/v1/rerank": "RerankRequest",
    "/v1/audio/speech": "SpeechRequest",
    "/inference": "InferenceRequest",
}
STORED = {"/v1/files", "/v1/batches", "/v1/batches/{batch_id}/cancel"}
"""What is no request to a model, so that it has no time limit."""


FORMS: Mapping[str, type[msgspec.Struct]] = {
    "/v1/audio/transcriptions": TranscriptionRequest,
    "/v1/audio/translations": TranslationRequest,
}


@pytest.fixture
async def document(http: httpx2.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get("/openapi.json")).json()
    return found


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def rows(*header: str) -> list[list[str]]:
    """The cells of the tables in the docs that begin with these columns, backticks taken off."""
    found: list[list[str]] = []
    inside = False
    for line in DOCS.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[: len(header)] == list(header):
            inside = True
        elif inside and not line.startswith("|---"):
            found.append(cells)
    return found


def test_every_route_is_in_the_document_and_the_docs(app: Starlette, document: dict[str, Any]) -> None:
    told = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    served = {
        f"{method} {route.path_format}"
        for route in app.routes
        if isinstance(route, Endpoint)
        for method in route.methods or ()
        if not route.path.startswith(("/docs", "/openapi.json"))
    }
    assert told == served == {route for route, *_ in rows("Route")} - {"GET /docs", "GET /openapi.json"}


def test_docs_have_every_reason() -> None:
    told = {code: (int(status), kind) for code, status, kind, _ in rows("code", "Status", "type")}
    reasons = {reason.value: entry for reason, entry in REASONS.items()}
    assert {code: told[code] for code in reasons} == reasons


def test_docs_have_every_other_code() -> None:
    source = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    used = set(re.findall(r'code(?:: str)? ?= ?"(\w+)"', source)) | set(re.findall(r'\d{3}: "(\w+)"', source))
    kept = (SOURCES.parent / "batches").glob("*.py")
    used |= {code for path in kept for code in re.findall(r'Conflict\(.*"(\w+)"\)', path.read_text())}
    used |= set(re.findall(r'Exceeded\("(\w+)"', (SOURCES.parent / "access" / "rate_limits.py").read_text()))
    used |= set(re.findall(r'_unknown\(scope, "(\w+)"', source))
    used |= {*Trouble, "file_not_found", "batch_not_found"}  # the latter made of what is missing
    used |= {*AdminRefusal, Ending.SUPERSEDED} - {reason.value for reason in REASONS}
    assert used == {code for code, *_ in rows("code", "Status", "type")} - {reason.value for reason in REASONS} | {
        RejectReason.UNKNOWN_MODEL.value
    }


def test_docs_have_the_bounds() -> None:
    assert f"within the first {STREAM_TIMEOUTS.commit_after:g} seconds" in DOCS
    assert f"every {STREAM_TIMEOUTS.comment_every:g} seconds" in DOCS
    assert f"reads nothing for {STREAM_TIMEOUTS.stall_timeout:g} seconds" in DOCS
    assert f"at most {MAX_BODY >> 20} MiB, with at most {MAX_TEXT >> 20} MiB of text" in DOCS
    assert f"{BYTES_A_TOKEN} bytes for each token of the model's `context`" in DOCS
    assert f"the body is over {MAX_BODY >> 20} MiB, or the upload over {MAX_UPLOAD >> 20} MiB" in DOCS
    assert f"at most {MAX_PIXELS // 1_000_000} megapixels" in DOCS
    assert f"at most {MAX_CHARACTERS:,} characters" in DOCS
    assert f"1 to {MAX_ITEMS} of" in DOCS
    assert f"a chat holds at most {MAX_PICTURES} of them" in DOCS
    assert f"through at most {MAX_REDIRECTS} redirects" in DOCS
    assert f"A request may hold {MAX_ADDRESSES}." in DOCS
    assert f"at\nmost {MAX_UPLOAD >> 20} MiB and {MAX_SECONDS // 3600} hours" in DOCS


def test_the_page_for_owners_has_the_limits() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    told = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", page, re.MULTILINE))
    head_bytes, headers = LIMITS.head_bytes >> 10, LIMITS.headers
    assert told["address and headers"] == f"{head_bytes} KiB, {headers} headers"
    assert f"over {head_bytes} KiB, or over {headers} headers" in DOCS
    assert told["time for them"] == f"{LIMITS.head:g} s"
    assert told["body of JSON"] == f"{MAX_BODY >> 20} MiB, of it {MAX_TEXT >> 20} MiB of text"
    assert told["body of a form"].startswith(f"{MAX_UPLOAD >> 20} MiB, ")
    assert told["time for a body"] == f"{LIMITS.body:g} s for each {LIMITS.body_step >> 10} KiB"
    assert told["rest of a body that was refused before it ended"] == f"{LIMITS.linger:g} s"
    pixels = f"{MAX_PIXELS // 1_000_000} megapixels"
    scanned = f"of a JPEG {MAX_SCANS} scans, and {MAX_SCANNED // 1_000_000} megapixels in all of them"
    assert told["picture"] == f"{pixels}, one frame; {scanned}; of a PNG {MAX_CHUNKS:,} chunks"
    rates = f"{LOWEST_RATE // 1000} to {HIGHEST_RATE // 1000} kHz"
    assert told["sound"] == f"{MAX_SECONDS // 3600} hours, {rates}, {MAX_CHANNELS} channels"
    assert f"at {rates} and of up to {MAX_CHANNELS} channels" in DOCS
    time = f"{CPU_SECONDS} s of the processor and by the clock, and 1 s more for every {SOUND_SECONDS / 60:g} minutes"
    opening = told["opening a picture or sound"]
    assert opening == f"{time} of sound that were decoded; {MEMORY >> 30} GiB of address space"
    assert CPU_SECONDS == WALL_SECONDS
    assert told["pictures and sounds that wait to be opened"] == f"{MAX_WAITING}"
    assert told["pictures in a chat"] == str(MAX_PICTURES)
    assert (
        told["a client that does not read its answer"]
        == f"{LIMITS.stall:g} s"
        == f"{STREAM_TIMEOUTS.stall_timeout:g} s"
    )
    idle = f"{LIMITS.keep_alive} s after the last one, {LIMITS.head:g} s before the first"
    assert told["connection without a request"] == idle
    assert f"looked at every {LIMITS.every:g} seconds" in page
    codes = {code for code, *_ in rows("code", "Status", "type")}
    assert set(re.findall(r"`(\w+)`", " ".join(re.findall(r"\| [0-9]{3} .*\|$", page, re.MULTILINE)))) <= codes
    assert f"1 to {MAX_DOCUMENTS} `documents`" in DOCS


@pytest.mark.parametrize(
    "header", ["x-request-timeout", "x-request-id", "retry-after", "x-should-retry", "x-cohabit-warning"]
)
def test_docs_have_the_headers(header: str) -> None:
    assert header in {name for name, *_ in rows("Header")}


async def test_docs_have_every_header_of_an_answer(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await http.post("/v1/chat/completions", json=CHAT)
    ours = {name for name in answer.headers if name.startswith("x-")}
    assert ours <= {name for name, *_ in rows("Header")}


def test_every_body_has_its_schema(document: dict[str, Any]) -> None:
    posts = {path: methods["post"] for path, methods in document["paths"].items() if "post" in methods}
    posts = {path: operation for path, operation in posts.items() if not path.startswith("/admin/")}  # no body
    posts = {path: operation for path, operation in posts.items() if path not in STORED}
    assert set(posts) == {*BODIES, "/batch", *FORMS}
    for path, name in BODIES.items():
        schema = posts[path]["requestBody"]["content"]["application/json"]["schema"]
        assert (schema["anyOf"][0] if path == "/inference" else schema) == {"$ref": f"#/components/schemas/{name}"}
    for path, operation in posts.items():
        assert operation["requestBody"]["required"]
        assert "x-request-timeout" in {parameter["name"] for parameter in operation["parameters"]}
        if path != "/batch":  # there each item has its own error
            assert {str(status) for status, _ in REASONS.values()} <= set(operation["responses"])


@pytest.mark.parametrize(("path", "name"), BODIES.items())
async def test_every_body_has_an_example_that_works(
    path: str, name: str, http: httpx2.AsyncClient, service: FakeService, document: dict[str, Any]
) -> None:
    service.reply = as_asked
    (example,) = document["components"]["schemas"][name]["examples"]
    assert (await http.post(path, json=example)).status_code == 200
    assert example.get("model", "llm") in load_config("embedded").models


def test_docs_list_the_operation_ids(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    listed = re.search(r"can be generated from it: (.*?)\.$", DOCS, re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == ids


def test_every_answer_has_its_shape(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            content = operation["responses"]["200"]["content"]
            for kind, described in content.items():
                assert described.get("schema") or kind == "text/event-stream", (path, kind)


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/v1/chat/completions", {*ERRORS}),
        ("/inference", {*ERRORS}),
        ("/batch", {400, 413, 500}),
        ("/v1/models", {500}),
        ("/v1/models/{name}", {404, 500}),
        ("/health/ready", {500, 503}),
        ("/metrics", {500}),
    ],
)
def test_routes_list_only_their_own_errors(path: str, statuses: set[int], document: dict[str, Any]) -> None:
    (operation,) = document["paths"][path].values()
    always = set(EVERYWHERE)
    assert {int(status) for status in operation["responses"]} - {200} - always == statuses - always


@pytest.mark.parametrize(
    ("address", "headers"),
    [("?api_key=x", {}), ("", {"content-encoding": "gzip"}), ("", {"origin": "null"})],
    ids=["key", "compressed", "foreign"],
)
async def test_every_route_lists_the_errors_of_middleware(
    address: str, headers: dict[str, str], http: httpx2.AsyncClient, document: dict[str, Any]
) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answer = await http.request(
                method, path.format(name="llm", file_id="x", batch_id="x") + address, headers=headers
            )
            assert answer.status_code in {400, 403, 415}
            assert str(answer.status_code) in operation["responses"], (method, path)


def test_answers_list_their_headers(document: dict[str, Any]) -> None:
    assert set(document["components"]["headers"]) == set(HEADERS) <= {name for name, *_ in rows("Header")}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                assert "x-request-id" in response["headers"], (path, status)
                assert ("retry-after" in response["headers"]) == (status in {"429", "503"})
    answers = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert "x-cohabit-queue-ms" in answers["200"]["headers"]
    assert "x-should-retry" in answers["408"]["headers"]
    assert set(document["paths"]["/batch"]["post"]["responses"]["200"]["headers"]) == {"x-request-id"}


async def test_required_headers_are_sent(http: httpx2.AsyncClient, service: FakeService) -> None:
    headers = (await http.get("/openapi.json")).json()["components"]["headers"]
    must = {name for name, header in headers.items() if header["required"]}
    service.reply = failing(rejected(RejectReason.QUEUE_FULL, 3.0))
    answer = await http.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 429
    assert must == {"x-request-id", "retry-after"} <= set(answer.headers)


@pytest.mark.parametrize(
    ("seconds", "right"),
    [("1", True), ("0.25", True), ("0", False), ("0.0", False), ("-1", False), ("1e3", False), ("", False)],
)
async def test_time_limit_matches_its_pattern(
    seconds: str, *, right: bool, http: httpx2.AsyncClient, service: FakeService, document: dict[str, Any]
) -> None:
    service.reply = as_asked
    (limit,) = document["paths"]["/v1/chat/completions"]["post"]["parameters"]
    assert bool(re.search(limit["schema"]["pattern"], seconds)) == right
    answer = await http.post("/v1/chat/completions", json=CHAT, headers={limit["name"]: seconds})
    assert (answer.status_code == 200) == right


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "ChatAnswer"),
        ("/v1/completions", "CompletionAnswer"),
        ("/v1/responses", "ResponseObject"),
    ],
)
def test_answer_is_an_object_or_a_stream(path: str, name: str, document: dict[str, Any]) -> None:
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
    assert "text/event-stream" in content


def test_list_and_form_have_their_schemas(document: dict[str, Any]) -> None:
    listed = document["paths"]["/batch"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (listed["type"], listed["items"]) == ("array", {"$ref": "#/components/schemas/InferenceRequest"})
    for path, kind in FORMS.items():
        body = document["paths"][path]["post"]["requestBody"]["content"]
        form = body["multipart/form-data"]["schema"]
        assert form["required"] == ["model", "file"]
        names = {name.removesuffix("[]") for name in form["properties"]}
        assert names == {"file", *kind.__struct_fields__}
        assert "null" not in str(form), "there is none in a form"
        if kind is TranscriptionRequest:
            assert form["properties"]["timestamp_granularities[]"]["type"] == "array"


def test_audio_routes_list_their_media_types(document: dict[str, Any]) -> None:
    def content(path: str) -> set[str]:
        return set(document["paths"][f"/v1/audio/{path}"]["post"]["responses"]["200"]["content"])

    written = {"application/json", "text/plain", "application/x-subrip", "text/vtt"}
    assert content("translations") == written
    assert content("transcriptions") == {*written, "text/event-stream"}
    assert {"audio/mpeg", "text/event-stream"} < content("speech")


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert found
    for reference in found:
        part = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]


def test_every_error_has_the_same_shape(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status not in {"200", "202"}:
                    schema = response["content"]["application/json"]["schema"]
                    assert schema["$ref"] == "#/components/schemas/ErrorResponse", (path, status)

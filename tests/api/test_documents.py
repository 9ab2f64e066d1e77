"""The OpenAPI document is complete, and docs/api.md says what the code does."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.driving import CHAT, FakeService, as_asked
from cohabit.api import errors
from cohabit.api.bodies import MOST_BODY, MOST_TEXT
from cohabit.api.errors import REASONS
from cohabit.api.streams import PACE
from cohabit.api.uploads import MOST_UPLOAD
from cohabit.core.reasons import RejectReason
from cohabit.media.pictures import MOST_PIXELS
from cohabit.openai.inference import MOST_ITEMS
from cohabit.openai.rerank import MOST_DOCUMENTS
from cohabit.openai.speech import MOST_CHARACTERS

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


FORMS = {"/v1/audio/transcriptions": "TranscriptionRequest", "/v1/audio/translations": "TranslationRequest"}


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


def test_every_route_is_in_both(app: FastAPI, document: dict[str, Any]) -> None:
    told = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    served = {
        f"{method} {context.path_format}"
        for context in iter_route_contexts(app.routes)
        for method in context.methods or ()
        if isinstance(context.original_route, APIRoute)
    }
    assert told == served == {route for route, *_ in rows("Route")}


def test_the_docs_have_every_reason() -> None:
    told = {code: (int(status), kind) for code, status, kind, _ in rows("code", "Status", "type")}
    reasons = {reason.value: entry for reason, entry in REASONS.items()}
    assert {code: told[code] for code in reasons} == reasons


def test_the_docs_have_every_other_code() -> None:
    source = "".join(path.read_text() for path in SOURCES.glob("*.py"))
    used = set(re.findall(r'code(?:: str)? ?= ?"(\w+)"', source)) | set(re.findall(r'\d{3}: "(\w+)"', source))
    assert used == {code for code, *_ in rows("code", "Status", "type")} - {reason.value for reason in REASONS} | {
        RejectReason.UNKNOWN_MODEL.value
    }


def test_the_docs_have_the_pace_and_the_bounds() -> None:
    assert f"within the first {PACE.commit_after:g} seconds" in DOCS
    assert f"every {PACE.comment_every:g} seconds" in DOCS
    assert f"reads nothing for {PACE.stall_timeout:g} seconds" in DOCS
    assert f"at most {MOST_BODY >> 20} MiB, with at most {MOST_TEXT >> 20} MiB of text" in DOCS
    assert f"the body is over {MOST_BODY >> 20} MiB, or the upload over {MOST_UPLOAD >> 20} MiB" in DOCS
    assert f"at most {MOST_PIXELS // 1_000_000} megapixels" in DOCS
    assert f"at most {MOST_CHARACTERS:,} characters" in DOCS
    assert f"1 to {MOST_ITEMS} of" in DOCS
    assert f"1 to {MOST_DOCUMENTS} `documents`" in DOCS


@pytest.mark.parametrize(
    "header", ["x-request-timeout", "x-request-id", "retry-after", "x-should-retry", "x-cohabit-warning"]
)
def test_the_docs_have_the_headers(header: str) -> None:
    assert header in {name for name, *_ in rows("Header")}


async def test_the_docs_have_the_headers_of_ours(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await http.post("/v1/chat/completions", json=CHAT)
    ours = {name for name in answer.headers if name.startswith("x-")}
    assert ours <= {name for name, *_ in rows("Header")}


def test_every_body_has_its_schema(document: dict[str, Any]) -> None:
    posts = {path: methods["post"] for path, methods in document["paths"].items() if "post" in methods}
    assert set(posts) == {*BODIES, "/batch", *FORMS}
    for path, name in BODIES.items():
        schema = posts[path]["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}
    for operation in posts.values():
        assert operation["requestBody"]["required"]
        assert {str(status) for status, _ in REASONS.values()} <= set(operation["responses"])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "ChatAnswer"),
        ("/v1/completions", "CompletionAnswer"),
        ("/v1/responses", "ResponseObject"),
    ],
)
def test_an_answer_is_an_object_or_a_stream(path: str, name: str, document: dict[str, Any]) -> None:
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
    assert "text/event-stream" in content


def test_a_list_and_a_form_have_their_schemas(document: dict[str, Any]) -> None:
    listed = document["paths"]["/batch"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert (listed["type"], listed["items"]) == ("array", {"$ref": "#/components/schemas/InferenceRequest"})
    for path, name in FORMS.items():
        body = document["paths"][path]["post"]["requestBody"]["content"]
        form = body["multipart/form-data"]["schema"]["allOf"]
        assert form[0] == {"$ref": f"#/components/schemas/{name}"}
        assert form[1]["required"] == ["file"]


def test_what_audio_answers_in(document: dict[str, Any]) -> None:
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


def test_every_error_is_of_the_one_shape(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status != "200":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema["$ref"] == "#/components/schemas/ErrorResponse", (path, status)
            assert "422" not in operation["responses"]
    assert "HTTPValidationError" not in document["components"]["schemas"]

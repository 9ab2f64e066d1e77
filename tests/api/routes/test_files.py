"""``/v1/files`` over a real store."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect

from api.batch_store_app import Stored, opened
from api.fake_service import CANARY
from batches.runner_bench import eventually
from cohabit.api.routes.files import Content
from cohabit.batches import files
from cohabit.batches.errors import Left, StorageError, Trouble

FORM = {"purpose": "batch"}
LINE = json.dumps({"custom_id": "a", "url": "/v1/embeddings", "body": {"model": "embeddings", "input": CANARY}})


@pytest.fixture
async def stored(app: Starlette, http: httpx2.AsyncClient, tmp_path: Path) -> AsyncIterator[Stored]:
    async with opened(app, http, tmp_path) as made:
        yield made


async def test_file_is_sent_listed_read_and_erased(stored: Stored) -> None:
    http = stored.http
    data = (LINE + "\n").encode() * 20_000  # several pieces
    sent = await http.post("/v1/files", data=FORM, files={"file": ("in.jsonl", data)})
    assert sent.status_code == 200, sent.text
    file = sent.json()
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(data),
        "created_at": file["created_at"],
        "expires_at": file["created_at"] + 30 * 86400,
        "filename": "in.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
    }
    assert (await http.get(f"/v1/files/{file['id']}")).json() == file
    assert (await http.get("/v1/files")).json() == {
        "object": "list",
        "data": [file],
        "first_id": file["id"],
        "last_id": file["id"],
        "has_more": False,
    }
    content = await http.get(f"/v1/files/{file['id']}/content")
    assert content.content == data
    assert content.headers["content-length"] == str(len(data))
    assert content.headers["content-type"] == "application/octet-stream"
    gone = await http.delete(f"/v1/files/{file['id']}")
    assert gone.json() == {"id": file["id"], "object": "file", "deleted": True}
    for answer in (
        await http.get(f"/v1/files/{file['id']}"),
        await http.get(f"/v1/files/{file['id']}/content"),
        await http.delete(f"/v1/files/{file['id']}"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


async def test_expiry_of_a_file(stored: Stored) -> None:
    form = {**FORM, "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = (await stored.http.post("/v1/files", data=form, files={"file": b"x"})).json()
    assert file["expires_at"] - file["created_at"] == 3600


async def test_unknown_fields_are_dropped_and_named(stored: Stored) -> None:
    answer = await stored.http.post("/v1/files", data={**FORM, "other": CANARY}, files={"file": b"x"})
    assert answer.status_code == 200
    assert answer.headers["x-cohabit-warning"] == "fields that are not known here were dropped: other"


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "fine-tune"}, "purpose"),
        ({}, "purpose"),
        ({**FORM, "expires_after[seconds]": "soon"}, "expires_after.seconds"),
        ({**FORM, "expires_after[seconds]": "60"}, "expires_after.seconds"),
    ],
)
async def test_invalid_fields_are_refused(form: dict[str, str], param: str | None, stored: Stored) -> None:
    answer = await stored.http.post("/v1/files", data=form, files={"file": LINE.encode()})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert await stored.bytes() == 0, "what was sent with it is not kept"


async def test_missing_file_is_refused(stored: Stored) -> None:
    for sent in ({"file": ("in.jsonl", b"")}, {"other": ("in.jsonl", b"x")}):
        answer = await stored.http.post("/v1/files", data=FORM, files=sent)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    answer = await stored.http.post("/v1/files", json=FORM)
    assert "multipart/form-data" in answer.json()["error"]["message"]
    assert await stored.bytes() == 0


async def test_file_name_is_cleaned(stored: Stored) -> None:
    name = "../../etc/pass\twd" + "x" * 300
    file = (await stored.http.post("/v1/files", data=FORM, files={"file": (name, b"x")})).json()
    assert len(file["filename"]) == 255
    assert "\t" not in file["filename"]


async def test_too_large_file_is_refused(stored: Stored) -> None:
    answer = await stored.http.post("/v1/files", data=FORM, files={"file": b"x" * (stored.store.most_upload + 1)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_much_stored")
    answer = await stored.http.post("/v1/files", data=FORM, files={"file": b"x" * (stored.store.most_upload + 2**21)})
    assert answer.status_code == 413
    assert await stored.bytes() == 0


async def test_full_storage_refuses_files(stored: Stored) -> None:
    for expected in (200, 200, 413):
        answer = await stored.http.post("/v1/files", data=FORM, files={"file": b"x" * stored.store.most_upload})
        assert answer.status_code == expected
    assert "delete some" in answer.json()["error"]["message"]


async def test_nothing_is_written_for_a_client_that_has_hung_up(stored: Stored) -> None:
    here = [True]
    upload = stored.store.upload(stored.who, "a", gone=lambda: not here[0])
    await upload.write(bytes(files.PIECE))
    assert await stored.bytes() == files.PIECE
    here[0] = False
    with pytest.raises(Left):
        await upload.write(bytes(files.PIECE))
    assert await stored.bytes() == files.PIECE
    upload.discard()

    async def nothing() -> bool:
        return await stored.bytes() == 0

    await eventually(nothing)


async def test_refusal_of_a_large_file_says_what_would_help(stored: Stored) -> None:
    async def refused(size: int) -> str:
        answer = await stored.http.post("/v1/files", data=FORM, files={"file": b"x" * size})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_much_stored")
        found: str = answer.json()["error"]["message"]
        return found

    assert await refused((4 << 20) + 1) == "a file may have at most 4 MiB; send it in several files"
    for size in (4 << 20, 3 << 20):
        answer = await stored.http.post("/v1/files", data=FORM, files={"file": b"x" * size})
        assert answer.status_code == 200
    assert await refused(2 << 20) == "7 of the 8 MiB are taken that all files may have together; delete some"


async def test_broken_off_upload_leaves_nothing(stored: Stored) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"y" * 2_000_000
        raise ClientDisconnect

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await stored.http.post("/v1/files", content=broken(), headers=headers)
    assert answer.status_code == 499

    async def nothing() -> bool:
        return await stored.bytes() == 0

    await eventually(nothing)


@pytest.mark.parametrize(
    ("trouble", "status"),
    [(Trouble.FULL, 507), (Trouble.BUSY, 503), (Trouble.UNREACHABLE, 503)],
)
async def test_database_errors_have_a_status(
    trouble: Trouble, status: int, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_args: object, **_how: object) -> None:
        raise StorageError(trouble)

    monkeypatch.setattr(stored.store._database, "read", fails)
    answer = await stored.http.get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, trouble.value)
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_file_erased_while_it_is_read_ends_truncated(stored: Stored) -> None:
    file = (await stored.http.post("/v1/files", data=FORM, files={"file": b"x" * 3_000_000})).json()
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, object]) -> None:
        sent.append(message)
        if len(sent) == 2:
            await stored.store.erase_file(stored.who, file["id"])

    content = Content(stored.store.content(stored.who, file["id"]), file["bytes"], stored.app.state.timeouts)
    await content({"type": "http"}, receive, send)  # type: ignore[arg-type]  # as much of a scope as it needs
    assert [message.get("more_body") for message in sent] == [None, True], "and not the end"


async def test_impossible_ids_are_not_found(stored: Stored) -> None:
    for name in ("file-none", "%00", "x" * 65):
        answer = await stored.http.get(f"/v1/files/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


async def test_invalid_parameters_are_refused(stored: Stored) -> None:
    for query in ("limit=0", "order=up", "purpose=x", "after=" + "x" * 65):
        answer = await stored.http.get(f"/v1/files?{query}")
        assert answer.status_code == 400


async def test_files_need_a_store(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/v1/files")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_storage")


async def test_repeated_field_is_refused(stored: Stored) -> None:
    form = {**FORM, "expires_after[seconds]": ["3600", "7200"]}
    answer = await stored.http.post("/v1/files", data=form, files={"file": b"x"})
    assert answer.status_code == 400
    assert "twice" in answer.json()["error"]["message"]
    assert await stored.bytes() == 0

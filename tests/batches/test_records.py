"""Batches as they are written down."""

from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select

from batches.runner_bench import ANN, MONTH, NOW, Bench, line
from cohabit.access.keys import Principal
from cohabit.batches import files, line_store, records, tables
from cohabit.batches.errors import Conflict, Missing
from cohabit.batches.line_store import failed
from cohabit.schemas.batches import BatchRequest
from cohabit.schemas.files import ExpiresAfter

BOB = Principal("bob", sees_all=False)
ADMIN = Principal("root", sees_all=True)


def asked(file_id: str, **fields: object) -> BatchRequest:
    return msgspec.convert({"input_file_id": file_id, "endpoint": "/v1/embeddings", **fields}, BatchRequest)


async def test_batch_is_created(bench: Bench) -> None:
    batch = await bench.get(await bench.create(line(1), completion_window="90m", metadata={"for": "a test"}))
    assert batch.status == "validating"
    expected = {
        "endpoint": "/v1/embeddings",
        "completion_window": "90m",
        "metadata": {"for": "a test"},
        "created_at": NOW,
        "expires_at": NOW + 5400,
    }
    assert {name: getattr(batch, name) for name in expected} == expected
    assert msgspec.to_builtins(batch.request_counts) == {"total": 0, "completed": 0, "failed": 0}


async def test_missing_or_foreign_input_file_is_refused(bench: Bench) -> None:
    file_id = await bench.send(line(1))
    for who, name in ((ANN, "file-none"), (BOB, file_id)):
        with pytest.raises(Missing):
            await bench.database.write(records.create, who, asked(name), NOW, MONTH)
    made = await bench.database.write(records.create, ADMIN, asked(file_id), NOW, MONTH)
    assert await bench.database.read(records.get, "root", made.id) == made, "an admin's batch is the admin's"


async def test_output_of_a_batch_is_refused_as_input(bench: Bench) -> None:
    bench.start()
    batch = await bench.ended(await bench.create(line(1)))
    assert batch.output_file_id is not None
    with pytest.raises(Conflict) as raised:
        await bench.database.write(records.create, ANN, asked(batch.output_file_id), NOW, MONTH)
    assert raised.value.code == "wrong_purpose"


async def test_batch_is_hidden_from_other_owners(bench: Bench) -> None:
    batch_id = await bench.create(line(1))
    with pytest.raises(Missing):
        await bench.database.read(records.get, "bob", batch_id)
    with pytest.raises(Missing):
        await bench.database.write(records.cancel, "bob", batch_id, NOW)
    with pytest.raises(Missing):
        await bench.database.write(records.hide, "bob", batch_id)
    assert (await bench.database.read(records.page, "bob", after=None, limit=9)).data == []


async def test_batches_are_listed_in_pages(bench: Bench) -> None:
    ids = []
    for number in range(4):
        ids.append(await bench.create(line(number)))
        bench.now += 1
    page = await bench.database.read(records.page, "ann", after=None, limit=3)
    assert [each.id for each in page.data] == ids[:0:-1]
    assert (page.first_id, page.last_id, page.has_more) == (ids[3], ids[1], True)
    page = await bench.database.read(records.page, "ann", after=ids[1], limit=3)
    assert ([each.id for each in page.data], page.has_more) == (ids[:1], False)


async def test_cancel_is_idempotent_and_refused_after_the_end(bench: Bench) -> None:
    batch_id = await bench.create(line(1))
    first = await bench.database.write(records.cancel, "ann", batch_id, NOW + 1)
    assert (first.status, first.cancelling_at) == ("cancelling", NOW + 1)
    assert await bench.database.write(records.cancel, "ann", batch_id, NOW + 2) == first
    bench.start()
    assert (await bench.ended(batch_id)).status == "cancelled"
    with pytest.raises(Conflict) as raised:
        await bench.database.write(records.cancel, "ann", batch_id, NOW + 3)
    assert raised.value.code == "batch_ended"


async def test_batch_is_deleted_only_after_its_end(bench: Bench) -> None:
    batch_id = await bench.create(line(1))
    with pytest.raises(Conflict) as raised:
        await bench.database.write(records.hide, "ann", batch_id)
    assert raised.value.code == "batch_not_ended"
    bench.start()
    batch = await bench.ended(batch_id)
    await bench.database.write(records.hide, "ann", batch_id)
    with pytest.raises(Missing):
        await bench.get(batch_id)
    with pytest.raises(Missing):
        await bench.text(batch.output_file_id)
    await bench.database.erase()

    def left(connection: Connection) -> int:
        every = (tables.batches, tables.lines, tables.files)
        return sum(len(connection.execute(select(table)).all()) for table in every)

    assert await bench.database.read(left) == 1, "the file that was sent"


async def test_results_are_kept_for_the_requested_time(bench: Bench) -> None:
    bench.start()
    batch = await bench.ended(await bench.create(line(1), output_expires_after=ExpiresAfter(seconds=7200)))
    (output,) = (await bench.database.read(files.page, None, **PAGE)).data
    assert output.expires_at == NOW + 7200
    await bench.database.write(records.expire, NOW + 7199)
    assert (await bench.get(batch.id)).status == "completed"
    await bench.database.write(records.expire, NOW + 7200)
    with pytest.raises(Missing):
        await bench.get(batch.id)


PAGE: dict[str, Any] = {"purpose": "batch_output", "after": None, "limit": 9, "newest": True}


async def test_batch_is_finished_once(bench: Bench) -> None:
    bench.start()
    batch = await bench.ended(await bench.create(line(1)))
    await bench.database.write(records.finish, batch.id, "expired", NOW + 9)
    assert await bench.get(batch.id) == batch
    await bench.database.write(records.finish, "batch_none", "expired", NOW + 9)


async def test_recorded_result_never_changes(bench: Bench) -> None:
    bench.start()
    batch = await bench.ended(await bench.create(line(1)))
    late = failed(batch.id, 1, "c1", "batch_expired", "too late")
    assert await bench.database.write(line_store.record, batch.id, [late]) == 0
    assert await bench.get(batch.id) == batch
    assert await bench.answers(batch) == {"c1": {"echo": 1}}


async def test_waiting_lines_come_in_order_and_within_the_limit(bench: Bench) -> None:
    batch_id = await bench.create("\n".join(line(number) for number in range(9)))
    bench.most_lines = 9
    bench.app.reply = lambda _: (503, {})
    bench.start()
    await bench.until(lambda batch: batch.status == "in_progress", batch_id)
    found = await bench.database.read(line_store.waiting, batch_id, "embeddings", 2, most=3, most_bytes=1000)
    assert [(each.number, each.custom_id, each.url) for each in found] == [
        (number + 1, f"c{number}", "/v1/embeddings") for number in (2, 3, 4)
    ]
    one = await bench.database.read(line_store.waiting, batch_id, "embeddings", 0, most=3, most_bytes=1)
    assert [each.number for each in one] == [1]
    assert await bench.database.read(line_store.waiting, batch_id, "llm", 0, most=3, most_bytes=1000) == []

"""Files: in pieces in, in pieces out, seen by their owner, erased."""

import pytest

from batches.runner_bench import MONTH, NOW, Bench, line
from cohabit.batches import files
from cohabit.batches.errors import Conflict, Missing
from cohabit.schemas.files import ExpiresAfter, FileList, FileUpload


async def content(bench: Bench, file_id: str) -> bytes:
    parts, place = [b""], -1
    while True:
        place, piece = await bench.database.read(files.piece, "ann", file_id, place)
        if not piece:
            return b"".join(parts)
        assert len(piece) <= 2 * files.PIECE
        parts.append(piece)


async def test_a_file_comes_back_as_it_was_sent(bench: Bench) -> None:
    data = bytes(range(256)) * (files.PIECE // 100)
    file_id = await bench.send(data)
    found = await bench.database.read(files.get, "ann", file_id)
    assert (found.bytes, found.filename, found.purpose) == (len(data), "in.jsonl", "batch")
    assert (found.created_at, found.expires_at) == (NOW, NOW + MONTH)
    assert await content(bench, file_id) == data


async def test_a_file_that_a_batch_made_comes_in_pieces_too(bench: Bench) -> None:
    bench.app.reply = lambda body: (200, "x" * 50_000)
    bench.start()
    batch = await bench.ended(await bench.create("\n".join(line(number) for number in range(40))))
    assert batch.output_file_id is not None
    found = await bench.database.read(files.get, "ann", batch.output_file_id)
    data = await content(bench, batch.output_file_id)
    assert (found.bytes, data.count(b"\n")) == (len(data), 40)
    assert (found.purpose, found.filename) == ("batch_output", f"{batch.id}_output.jsonl")


async def test_unfinished_upload_is_invisible(bench: Bench) -> None:
    file_id = await bench.database.write(files.begin, "ann", "in.jsonl", NOW)
    await bench.database.write(files.append, file_id, 0, b"half")
    for owner in ("ann", None):
        with pytest.raises(Missing):
            await bench.database.read(files.get, owner, file_id)
        assert (await files_of(bench, owner)).data == []
    assert await bench.database.read(files.stored) == 4, "but it counts"
    await bench.database.write(files.abandon, NOW)
    await bench.database.erase()
    assert await bench.database.read(files.stored) == 4, "it may still be on its way"
    await bench.database.write(files.abandon, NOW + 1)
    await bench.database.erase()
    assert await bench.database.read(files.stored) == 0


async def files_of(bench: Bench, owner: str | None, **how: object) -> FileList:
    asked = {"purpose": None, "after": None, "limit": 100, "newest": True, **how}
    return await bench.database.read(files.page, owner, **asked)  # type: ignore[arg-type]  # a test's defaults


async def test_file_is_hidden_from_other_owners(bench: Bench) -> None:
    file_id = await bench.send("x")
    for do in (files.get, files.hide):
        with pytest.raises(Missing):
            await bench.database.write(do, "bob", file_id)
    with pytest.raises(Missing):
        await bench.database.read(files.piece, "bob", file_id, -1)
    assert (await files_of(bench, "bob")).data == []
    assert [each.id for each in (await files_of(bench, None)).data] == [file_id], "an admin does"


async def test_files_are_listed_in_pages(bench: Bench) -> None:
    ids = []
    for _ in range(5):
        ids.append(await bench.send("x"))
        bench.now += 1
    first = await files_of(bench, "ann", limit=2)
    assert [each.id for each in first.data] == [ids[4], ids[3]]
    assert (first.first_id, first.last_id, first.has_more) == (ids[4], ids[3], True)
    assert [each.id for each in (await files_of(bench, "ann", after=ids[3])).data] == ids[2::-1]
    assert [each.id for each in (await files_of(bench, "ann", after=ids[3], newest=False)).data] == ids[4:]
    last = await files_of(bench, "ann", after=ids[0])
    assert (last.data, last.first_id, last.last_id, last.has_more) == ([], None, None, False)
    assert (await files_of(bench, "ann", purpose="batch_output")).data == []


async def test_deleted_file_is_gone(bench: Bench) -> None:
    file_id = await bench.send("x")
    await bench.database.write(files.hide, "ann", file_id)
    with pytest.raises(Missing):
        await bench.database.read(files.get, "ann", file_id)
    await bench.database.erase()
    assert await bench.database.read(files.stored) == 0


async def test_deleting_output_deletes_its_answers(bench: Bench) -> None:
    bench.start()
    batch = await bench.ended(await bench.create(f"{line(1)}\nrubbish"))
    assert batch.output_file_id is not None
    await bench.database.write(files.hide, "ann", batch.output_file_id)
    after = await bench.get(batch.id)
    assert (after.output_file_id, after.error_file_id) == (None, batch.error_file_id)
    assert len(await bench.text(batch.error_file_id)) == 1


async def test_deleting_output_frees_its_space(bench: Bench) -> None:
    bench.most_lines = 2000
    bench.app.reply = lambda body: (200, "x" * 400)
    bench.start()
    batch = await bench.ended(await bench.create("\n".join(line(number) for number in range(2000))))
    assert batch.output_file_id is not None
    for file_id in (batch.input_file_id, batch.output_file_id):
        await bench.database.write(files.hide, "ann", file_id)
    assert bench.database.path is not None
    before = bench.database.path.stat().st_size
    await bench.database.erase()
    assert bench.database.path.stat().st_size < before / 4
    after = await bench.get(batch.id)
    assert (after.status, after.request_counts) == (batch.status, batch.request_counts)


async def test_file_in_use_by_a_batch_is_not_deleted(bench: Bench) -> None:
    batch = await bench.get(await bench.create(line(1)))
    with pytest.raises(Conflict) as raised:
        await bench.database.write(files.hide, "ann", batch.input_file_id)
    assert raised.value.code == "file_in_use"
    bench.start()
    await bench.ended(batch.id)
    await bench.database.write(files.hide, "ann", batch.input_file_id)


async def test_retention_is_kept_within_its_maximum(bench: Bench) -> None:
    file_id = await bench.send("x")
    for seconds, kept in ((3600, 3600), (2592000, 86400)):
        upload = FileUpload(purpose="batch", expires_after=ExpiresAfter(seconds=seconds))
        found = await bench.database.write(files.seal, file_id, upload, NOW, 86400.0)
        assert found.expires_at == NOW + kept
    for now, there in ((NOW + 86399, 1), (NOW + 86400, 0)):
        await bench.database.write(files.expire, now)
        assert len((await files_of(bench, None)).data) == there


async def test_expired_file_is_kept_while_a_batch_reads_it(bench: Bench) -> None:
    await bench.create(line(1))
    await bench.database.write(files.expire, NOW + 2 * MONTH)
    assert len((await files_of(bench, None)).data) == 1


@pytest.mark.parametrize(
    ("sizes", "most", "numbers"),
    [([], 9, []), ([5, 4, 1], 9, [0, 1]), ([10, 1], 9, [0]), ([3, 3, 3], 9, [0, 1, 2]), ([1, 9, 1], 9, [0])],
)
def test_page_of_rows_is_bounded_by_bytes(sizes: list[int], most: int, numbers: list[int]) -> None:
    assert files.some(list(enumerate(sizes)), most) == numbers

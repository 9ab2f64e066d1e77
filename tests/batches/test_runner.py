"""Batches from the first line to the last, over a real database and an app that the test drives."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from batches.runner_bench import Answering, Bench, eventually, line
from cohabit.batches import erasing, files, line_store, records, runner
from cohabit.batches.calendar import SETTLED
from cohabit.batches.errors import StorageError, Trouble
from cohabit.batches.leader import Leader
from cohabit.batches.run_context import AT_ONCE
from cohabit.batches.runner import BatchRunner
from cohabit.core.commands import RejectReason


def no_pauses(running: BatchRunner) -> list[float]:
    """What would have been waited for; no test sleeps."""
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    running._context.pause = pause  # type: ignore[method-assign]  # a method of this one alone
    return pauses


def error(code: str) -> dict[str, Any]:
    return {"error": {"message": "no", "type": "server_error", "param": None, "code": code}}


async def test_every_line_is_answered_in_the_order_of_the_input(bench: Bench, app: Answering) -> None:
    lines = [line(number, model=("embeddings", "llm", "nobody")[number % 3]) for number in range(90)]
    bench.start()
    batch = await bench.ended(await bench.create("\n".join(lines), metadata={"a": "b"}))
    assert batch.status == "completed"
    assert msgspec.to_builtins(batch.request_counts) == {"total": 90, "completed": 90, "failed": 0}
    assert batch.error_file_id is None
    output = await bench.text(batch.output_file_id)
    assert [each["custom_id"] for each in output] == [f"c{number}" for number in range(90)]
    assert output[7]["response"] == {"status_code": 200, "request_id": "req-1", "body": {"echo": 7}}
    assert output[7]["error"] is None
    assert len({each["id"] for each in output}) == 90
    assert batch.metadata == {"a": "b"}
    assert sorted(app.inputs()) == list(range(90))


async def test_lines_run_as_best_effort_for_their_owner(bench: Bench, app: Answering) -> None:
    bench.start()
    batch = await bench.ended(await bench.create(line(1), completion_window="10m"))
    (scope, _), *_ = app.asked
    assert scope["state"] == {"key": "ann's", "background": True}
    assert scope["client"][0] == batch.id
    assert dict(scope["headers"])[b"x-request-timeout"] == b"600"
    assert (scope["method"], scope["path"]) == ("POST", "/v1/embeddings")


async def test_invalid_lines_are_in_the_error_file_and_others_answered(bench: Bench, app: Answering) -> None:
    app.reply = lambda body: (400, error("invalid_request")) if body["input"] == 2 else (200, {"echo": 1})
    bench.start()
    batch = await bench.ended(await bench.create("\n".join([line(1), line(2), "rubbish", line(1)])))
    assert batch.status == "completed"
    assert msgspec.to_builtins(batch.request_counts) == {"total": 4, "completed": 1, "failed": 3}
    first, second, third = await bench.text(batch.error_file_id)
    assert first["custom_id"] == "c2"
    assert first["response"]["status_code"] == 400
    assert (second["custom_id"], second["error"]["code"]) == (None, "invalid_json_line")
    assert (third["custom_id"], third["error"]["code"]) == ("c1", "duplicate_custom_id")
    assert batch.errors is not None
    assert [(each.line, each.code) for each in batch.errors.data] == [
        (3, "invalid_json_line"),
        (4, "duplicate_custom_id"),
    ]


async def test_batch_resumes_after_a_crash(bench: Bench, app: Answering) -> None:
    batch_id = await bench.create("\n".join(line(number) for number in range(300)))
    for _ in range(4):
        bench.start()
        before = len(app.asked)
        await bench.until(lambda _: len(app.asked) >= before + 40, batch_id)  # noqa: B023 - called before it changes
        await bench.crash()
    bench.start()
    batch = await bench.ended(batch_id)
    assert msgspec.to_builtins(batch.request_counts) == {"total": 300, "completed": 300, "failed": 0}
    assert await bench.answers(batch) == {f"c{number}": {"echo": number} for number in range(300)}
    assert len(await bench.text(batch.output_file_id)) == 300


async def test_crash_during_validation_restarts_validation(bench: Bench) -> None:
    long = "\n".join(line(number, more="x" * 10_000) for number in range(200))
    batch_id = await bench.create(long)
    bench.start()
    await eventually(lambda: bench.database.read(line_store.models, batch_id))
    await bench.crash()
    assert (await bench.get(batch_id)).status == "validating"
    bench.start()
    batch = await bench.ended(batch_id)
    assert len(await bench.answers(batch)) == batch.request_counts.total == 200


async def test_shutdown_finishes_running_lines_and_keeps_the_rest(bench: Bench, app: Answering) -> None:
    app.gate = asyncio.Event()
    bench.start()
    batch_id = await bench.create("\n".join(line(number) for number in range(100)))
    await bench.until(lambda _: len(app.asked) == AT_ONCE, batch_id)
    assert bench.runner is not None
    bench.runner.halt()
    app.gate.set()
    await bench.stop()
    batch = await bench.get(batch_id)
    assert (batch.status, batch.request_counts.completed) == ("in_progress", AT_ONCE)
    bench.start()
    assert len(await bench.answers(await bench.ended(batch_id))) == 100


async def test_refusal_during_shutdown_keeps_the_line(bench: Bench, app: Answering) -> None:
    def stopping(_: Any) -> tuple[int, Any]:
        assert bench.runner is not None
        bench.runner.halt()
        return 503, error(RejectReason.SHUTTING_DOWN)

    app.reply = stopping
    bench.start()
    batch_id = await bench.create(line(1))
    assert bench.task is not None
    await bench.task
    assert (await bench.get(batch_id)).request_counts.failed == 0
    app.reply = lambda _: (200, {})
    bench.start()
    assert (await bench.ended(batch_id)).request_counts.completed == 1


async def test_lines_in_flight_per_model_are_limited(bench: Bench, app: Answering) -> None:
    app.gate = asyncio.Event()
    bench.start()
    text = "\n".join(line(number) for number in range(50))
    first, second = [await bench.create(text) for _ in range(2)]
    await bench.until(lambda _: len(app.asked) >= AT_ONCE, first)
    await asyncio.sleep(0.1)  # would the other one ask more, it would have
    assert len(app.asked) == AT_ONCE
    app.gate.set()
    assert (await bench.ended(first)).status == (await bench.ended(second)).status == "completed"


async def test_batches_in_progress_are_limited(bench: Bench, app: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_RUNNING", 2)
    app.gate = asyncio.Event()
    ids = []
    for number in range(5):
        ids.append(await bench.create(line(number)))
        bench.later(1)
    bench.start()
    await bench.until(lambda _: len(app.asked) == 2, ids[0])
    assert [(await bench.get(each)).status for each in ids[2:]] == ["validating"] * 3
    cancelled = await bench.database.write(records.cancel, None, ids[4], bench.now)
    assert cancelled.status == "cancelling"
    assert bench.runner is not None
    bench.runner.poke()
    assert (await bench.ended(ids[4])).status == "cancelled", "which needs no place"
    app.gate.set()
    assert [(await bench.ended(each)).status for each in ids[:4]] == ["completed"] * 4


async def test_cancelled_batch_ends_with_partial_results(bench: Bench, app: Answering) -> None:
    lines = "\n".join(line(number) for number in range(60))
    gate = asyncio.Event()
    bench.start()
    batch_id = await bench.create(lines)

    def reply(body: Any) -> tuple[int, Any]:
        app.gate = gate
        return 200, {"echo": body["input"]}

    app.reply = reply
    await bench.until(lambda batch: batch.request_counts.completed >= 1 and len(app.asked) > AT_ONCE, batch_id)
    await bench.database.write(records.cancel, "ann", batch_id, bench.now)
    assert bench.runner is not None
    bench.runner.poke()
    batch = await bench.ended(batch_id)
    assert batch.status == "cancelled"
    assert batch.cancelled_at
    assert app.cancelled >= 1, "what ran was told that nobody wants it"
    answered, errors = await bench.answers(batch), await bench.errors(batch)
    assert len(answered) + len(errors) == 60
    assert not answered.keys() & errors.keys()
    assert {each["code"] for each in errors.values()} == {"batch_cancelled"}


async def test_expired_batch_ends_with_partial_results(bench: Bench, app: Answering) -> None:
    app.gate = asyncio.Event()
    batch_id = await bench.create("\n".join(line(number) for number in range(3)), completion_window="1m")
    bench.later(59.9)
    bench.start()
    await bench.until(lambda batch: batch.status == "in_progress", batch_id)
    bench.later(0.2)
    batch = await bench.ended(batch_id)
    assert batch.status == "expired"
    assert batch.output_file_id is None
    assert {each["code"] for each in (await bench.errors(batch)).values()} == {"batch_expired"}


async def test_batch_expires_while_no_server_runs(bench: Bench, app: Answering) -> None:
    batch_id = await bench.create(line(1), completion_window="1m")
    bench.later(3600)
    bench.start()
    assert (await bench.ended(batch_id)).status == "expired"
    assert app.asked == []


async def test_batch_near_expiry_is_no_longer_best_effort(bench: Bench, app: Answering) -> None:
    batch_id = await bench.create(line(1), completion_window="10m")
    bench.later(545)
    bench.start()
    await bench.ended(batch_id)
    assert [scope["state"]["background"] for scope, _ in app.asked] == [False]


async def test_slow_batch_is_no_longer_best_effort(bench: Bench, app: Answering) -> None:
    def reply(_: Any) -> tuple[int, Any]:
        bench.later(60)
        return 200, {}

    app.reply = reply
    batch_id = await bench.create("\n".join(line(number) for number in range(100)), completion_window="1h")
    bench.start()
    await bench.ended(batch_id)
    asked = [scope["state"]["background"] for scope, _ in app.asked]
    assert asked[:20] == [True] * 20, "it is not known yet how fast it goes"
    assert asked.index(False) < 53, "long before the last tenth of its time"


async def test_revoked_key_ends_its_lines(bench: Bench, app: Answering) -> None:
    bench.known = {}
    bench.start()
    batch = await bench.ended(await bench.create(line(1)))
    assert {each["code"] for each in (await bench.errors(batch)).values()} == {"key_revoked"}
    assert app.asked == []


async def test_server_errors_are_retried(bench: Bench, app: Answering) -> None:
    answers = iter([(429, error("queue_full")), (503, error("model_failed")), (200, {"echo": "at last"})])
    app.reply = lambda _: next(answers)
    bench.start()
    assert bench.runner is not None
    pauses = no_pauses(bench.runner)
    app.headers = {"retry-after": "7"}
    batch = await bench.ended(await bench.create(line(1)))
    assert await bench.answers(batch) == {"c1": {"echo": "at last"}}
    assert pauses == [7.0, 7.0]


async def test_file_without_valid_lines_fails_the_batch(bench: Bench, app: Answering) -> None:
    bench.start()
    batch = await bench.ended(await bench.create("rubbish\n{}\n"))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [each.code for each in batch.errors.data] == ["no_requests", "invalid_json_line", "invalid_line"]
    assert batch.request_counts.total == 0
    assert (batch.output_file_id, batch.error_file_id, app.asked) == (None, None, [])


async def test_too_many_lines_fail_the_batch(bench: Bench, app: Answering) -> None:
    bench.most_lines = 3
    bench.start()
    batch = await bench.ended(await bench.create("\n".join(line(number) for number in range(4))))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data[0].code == "too_many_requests_in_file"
    assert "more than 3 requests" in batch.errors.data[0].message
    assert app.asked == []


async def test_temporary_database_failure_is_survived(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = dict.fromkeys((line_store.record, records.finish, line_store.waiting), 2)
    for name in ("read", "write"):
        real = getattr(bench.database, name)

        async def flaky(do: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
            if failures.get(do, 0):
                failures[do] -= 1
                raise StorageError(Trouble.FULL)
            return await real(do, *args, **kwargs)

        monkeypatch.setattr(bench.database, name, flaky)
    bench.start()
    assert bench.runner is not None
    no_pauses(bench.runner)
    batch = await bench.ended(await bench.create("\n".join(line(number) for number in range(5))))
    assert len(await bench.answers(batch)) == 5
    assert set(failures.values()) == {0}


async def test_unexpected_error_is_logged_without_content_and_retried(bench: Bench, app: Answering) -> None:
    bugs = iter([True, False])

    def reply(body: Any) -> tuple[int, Any]:
        if next(bugs):
            raise RuntimeError(json.dumps(body))
        return 200, {"echo": 1}

    app.reply = reply
    with capture_logs() as lines:
        bench.start()
        assert bench.runner is not None

        no_pauses(bench.runner)
        batch = await bench.ended(await bench.create(line(1, more="kanarienvogel")))
    assert batch.request_counts.completed == 1
    assert any(each["event"] == "unexpected error" and each["batch"] == batch.id for each in lines)
    assert "kanarienvogel" not in str(lines)


async def test_a_batch_does_not_end_while_a_line_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write, lost = bench.database.write, [True]

    async def forgetful(do: Any, *args: Any, **kwargs: Any) -> Any:
        if do is line_store.record and lost:
            lost.pop()
            return 0
        return await write(do, *args, **kwargs)

    monkeypatch.setattr(bench.database, "write", forgetful)
    bench.start()
    batch = await bench.ended(await bench.create("\n".join(line(number) for number in range(5))))
    assert not lost
    assert len(await bench.answers(batch)) == 5


async def test_only_one_server_runs_batches_of_a_database(bench: Bench, app: Answering) -> None:
    other = Bench(bench.database, Answering())
    bench.start()
    batch_id = await bench.create(line(1))
    await bench.ended(batch_id)
    assert not await Leader(bench.database).leads()
    other.start()
    batch_id = await bench.create(line(2))
    await bench.ended(batch_id)
    assert (app.inputs(), other.app.inputs()) == ([1, 2], [])
    await bench.stop()
    assert other.runner is not None
    other.runner.poke()
    await other.ended(await other.create(line(3)))
    assert other.app.inputs() == [3]
    await other.stop()


async def test_next_server_overwrites_data_deleted_before_a_kill(bench: Bench) -> None:
    file_id = await bench.send(b"kanarienvogel" * 50_000)
    await bench.database.write(files.hide, None, file_id)
    while await bench.database.write(erasing.step):
        continue  # and then it was killed
    assert bench.database.path is not None
    folder = bench.database.path.parent

    async def left() -> bool:
        return any(b"kanarienvogel" in each.read_bytes() for each in folder.iterdir())

    async def gone() -> bool:
        return not await left()

    assert await left()
    bench.start()
    await eventually(gone)


async def test_expired_batches_and_files_are_deleted(bench: Bench) -> None:
    await bench.database.write(files.begin, "ann", "half.jsonl", bench.now - 10)
    batch_id = await bench.create(line(1))
    bench.start()
    batch = await bench.ended(batch_id)
    assert await bench.database.read(files.stored) > 0
    await bench.stop()
    bench.later(31 * 86400)
    bench.start()
    assert bench.runner is not None

    async def empty() -> bool:
        batches = await bench.database.read(records.page, None, after=None, limit=10)
        return not batches.data and not await bench.database.read(files.stored)

    await eventually(empty)
    assert batch.output_file_id is not None


async def kept(bench: Bench) -> bool:
    """Whether there are batches and files, after a look at what has expired."""
    assert bench.runner is not None
    bench.runner.poke()
    await asyncio.sleep(0.05)  # nothing can be waited for: it must not happen
    batches = await bench.database.read(records.page, None, after=None, limit=10)
    return bool(batches.data) and await bench.database.read(files.stored) > 0


@pytest.mark.parametrize("settled", [True, False], ids=["settled", "just started"])
async def test_brief_wrong_clock_deletes_nothing(bench: Bench, settled: bool) -> None:
    bench.settled = settled
    bench.start()
    await bench.ended(await bench.create(line(1)))
    for _ in range(3):
        bench.now += 40 * 86400
        assert await kept(bench)
        bench.later(12)
        assert await kept(bench)
        bench.now -= 40 * 86400
        bench.later(3600)  # and the hour of the next sweep comes
        assert await kept(bench)


async def test_wrong_clock_at_start_deletes_nothing(bench: Bench) -> None:
    bench.start()
    await bench.ended(await bench.create(line(1)))
    await bench.stop()
    bench.settled = False
    bench.now += 40 * 86400
    bench.start()
    bench.later(SETTLED / 2)
    assert await kept(bench)
    bench.now -= 40 * 86400
    bench.later(SETTLED)
    assert await kept(bench)


async def test_wrong_clock_at_start_expires_no_batch(bench: Bench, app: Answering) -> None:
    batch_id = await bench.create(line(1), completion_window="24h")
    bench.settled = False
    bench.now += 2 * 86400
    bench.start()
    assert (await bench.ended(batch_id)).status == "completed"
    assert len(app.asked) == 1


async def test_brief_wrong_clock_expires_no_running_batch(bench: Bench, app: Answering) -> None:
    app.gate = asyncio.Event()
    bench.start()
    batch_id = await bench.create(line(1), completion_window="24h")
    await bench.until(lambda batch: batch.status == "in_progress", batch_id)
    bench.now += 2 * 86400
    assert bench.runner is not None
    bench.runner.poke()
    await asyncio.sleep(0.05)  # nothing can be waited for: it must not happen
    bench.now -= 2 * 86400
    app.gate.set()
    assert (await bench.ended(batch_id)).status == "completed"


async def test_expired_objects_are_deleted_once_the_clock_has_settled(bench: Bench) -> None:
    bench.start()
    await bench.ended(await bench.create(line(1)))
    await bench.stop()
    bench.settled = False
    bench.later(31 * 86400)
    bench.start()
    assert await kept(bench)
    bench.later(SETTLED)

    async def erased() -> bool:
        return not await kept(bench)

    await eventually(erased)

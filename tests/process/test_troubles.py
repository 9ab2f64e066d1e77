"""What goes wrong around a batch: the disk is full, the database is locked or away, the file is huge."""

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohabit.schemas.batches import ENDED
from harness import Running, serving, wait_until
from postgres import Cluster, postgres
from programs import OWN_MOUNTS

pytestmark = [pytest.mark.process]

MIB = 1 << 20
MESSAGES = [{"role": "user", "content": "one"}]


def config(**batches: Any) -> str:
    """A quick model, and one that takes its time."""
    slow = {"engine": "fake", "concurrency": 4, "options": {"run_seconds": 0.1}}
    return json.dumps({"batches": batches, "models": {"quick": {"engine": "fake"}, "slow": slow}})


def line(number: int, model: str = "slow") -> bytes:
    body = {"model": model, "messages": MESSAGES}
    asked = {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(asked).encode()


def begin(server: Running, text: bytes) -> str:
    """The id of a batch of these lines."""
    file = server.http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", text)})
    assert file.status_code == 200, file.text
    asked = {"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions"}
    made: dict[str, str] = server.http.post("/v1/batches", json=asked).json()
    return made["id"]


def batch(server: Running, batch_id: str) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get(f"/v1/batches/{batch_id}").json()
    return found


def ended(server: Running, batch_id: str) -> dict[str, Any]:
    """Once it is at its end."""
    wait_until(lambda: batch(server, batch_id).get("status") in ENDED)
    return batch(server, batch_id)


def answered(server: Running, found: dict[str, Any]) -> list[str]:
    """Which lines, in the order of the output."""
    content = server.http.get(f"/v1/files/{found['output_file_id']}/content").text
    return [json.loads(each)["custom_id"] for each in content.splitlines()]


def code(server: Running, method: str, path: str, **how: Any) -> tuple[int, str]:
    answer = server.http.request(method, path, **how)
    return answer.status_code, answer.json().get("error", {}).get("code")


def upload(server: Running, data: bytes) -> tuple[int, str]:
    return code(server, "POST", "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", data)})


@pytest.mark.needs("unshare")
def test_the_disk_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # In a namespace of its own the server has a small disk there, whoever runs the test.
    mount = 'mount -t tmpfs -o size=32m tmpfs "$0" && exec "$@"'
    within = [*OWN_MOUNTS, "sh", "-c", mount, str(disk)]
    with serving(tmp_path, config(database=f"sqlite:///{disk}/batches.db"), within=within) as server:
        seen = Path(f"/proc/{server.pid}/root{disk}")
        assert seen.is_mount()
        batch_id = begin(server, b"\n".join(line(number) for number in range(200)))
        wait_until(lambda: batch(server, batch_id)["request_counts"]["completed"] >= 10)
        assert upload(server, b"x" * 40 * MIB) == (507, "storage_full")
        # Its room is given back soon, not at once; until then there would be some for the batch.
        wait_until(lambda: (seen / "batches.db").stat().st_size < 4 * MIB)
        ballast = seen / "ballast"
        fill(ballast)
        assert upload(server, b"x" * MIB) == (507, "storage_full")
        for _ in range(5):
            assert server.chat(model="quick").status_code == 200
            time.sleep(0.2)  # in which the batch would go on if it could
        stuck = batch(server, batch_id)
        assert stuck["status"] == "in_progress"
        ballast.unlink()
        found = ended(server, batch_id)
        assert found["status"] == "completed"
        assert answered(server, found) == [f"c{number}" for number in range(200)]
        # What was sent in vain leaves no trace, as soon as it has been erased.
        wait_until(lambda: upload(server, b"x" * 8 * MIB)[0] == 200)
        wait_until(lambda: '"why":"SQLITE_FULL"' in server.log.read_text())


def fill(path: Path) -> None:
    """With all that the disk has left."""
    with path.open("wb", buffering=0) as file:
        size = MIB
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def test_the_database_is_locked(tmp_path: Path) -> None:
    with serving(tmp_path, config()) as server:
        batch_id = begin(server, b"\n".join(line(number) for number in range(40)))
        wait_until(lambda: batch(server, batch_id)["request_counts"]["completed"] >= 5)
        other = sqlite3.connect(tmp_path / "state" / "batches.db", isolation_level=None, timeout=10)
        other.execute("BEGIN IMMEDIATE")
        refused = server.http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", b"x")})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert server.chat(model="quick").status_code == 200
        assert batch(server, batch_id)["status"] == "in_progress", "to look at it needs no lock"
        other.rollback()
        other.close()
        found = ended(server, batch_id)
        assert answered(server, found) == [f"c{number}" for number in range(40)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres() as made:
        yield made


@pytest.mark.needs("postgresql")
def test_postgresql_is_away_for_a_while(cluster: Cluster, tmp_path: Path) -> None:
    with serving(tmp_path, config(database=cluster.url.replace("cohabit@", "cohabit:secret@"))) as server:
        batch_id = begin(server, b"\n".join(line(number) for number in range(100)))
        wait_until(lambda: batch(server, batch_id)["request_counts"]["completed"] >= 5)
        cluster.stop()
        try:
            assert code(server, "GET", f"/v1/batches/{batch_id}") == (503, "storage_unreachable")
            assert upload(server, b"x") == (503, "storage_unreachable")
            assert server.chat(model="quick").status_code == 200
        finally:
            cluster.start()
        found = ended(server, batch_id)
        assert answered(server, found) == [f"c{number}" for number in range(100)]
        assert "secret" not in server.log.read_text()


@pytest.mark.needs("postgresql")
def test_it_starts_without_its_database(cluster: Cluster, tmp_path: Path) -> None:
    cluster.stop()
    try:
        with serving(tmp_path, config(database=cluster.url)) as server:
            assert code(server, "GET", "/v1/files") == (503, "storage_unreachable")
            assert server.chat(model="quick").status_code == 200
            cluster.start()
            batch_id = begin(server, line(1, "quick"))
            assert ended(server, batch_id)["status"] == "completed"
    finally:
        cluster.stop()
        cluster.start()


@pytest.mark.needs("postgresql")
def test_of_two_servers_one_runs_the_batches_and_the_other_takes_over(cluster: Cluster, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with (
        serving(tmp_path / "first", config(database=cluster.url)) as first,
        serving(tmp_path / "second", config(database=cluster.url)) as second,
    ):
        batch_id = begin(second, b"\n".join(line(number) for number in range(200)))
        wait_until(lambda: batch(second, batch_id)["request_counts"]["completed"] >= 10)
        assert first.model("slow")["loads"] == 1
        assert second.model("slow")["loads"] == 0
        first.process.kill()
        found = ended(second, batch_id)
        assert second.model("slow")["loads"] == 1
        assert answered(second, found) == [f"c{number}" for number in range(200)]


def largest(pid: int) -> int:
    """The most memory that this process has had at any time, resident, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_a_hundred_thousand_lines(tmp_path: Path) -> None:
    with serving(tmp_path, config()) as server:
        text = b"\n".join(line(number) for number in range(100_000))
        batch_id = begin(server, text)
        wait_until(lambda: batch(server, batch_id)["status"] == "in_progress")
        assert batch(server, batch_id)["request_counts"]["total"] == 100_000
        assert server.chat(model="quick").status_code == 200
        server.http.post(f"/v1/batches/{batch_id}/cancel")
        found = ended(server, batch_id)
        counts = found["request_counts"]
        assert (found["status"], counts["completed"] + counts["failed"]) == ("cancelled", 100_000)
        errors = server.http.get(f"/v1/files/{found['error_file_id']}/content").text.splitlines()
        assert len(errors) == counts["failed"]
        assert largest(server.pid) < 200 * MIB, "it is never held whole"
        found = ended(server, begin(server, text + b"\n" + line(100_000)))
        assert found["status"] == "failed"
        assert found["errors"]["data"][0]["code"] == "too_many_requests_in_file"

"""Uploads that break off cost nobody else anything, and leave nothing behind."""

import socket
from contextlib import ExitStack
from pathlib import Path

import httpx2
import psutil
import pytest

from harness import Running, serving

pytestmark = pytest.mark.process

CONFIG = "models: {a: {engine: fake}}\n"
MIB = 1 << 20
SIZE = 600_000  # bytes that each sends
CROWD = 100
HEAD = (
    b"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; boundary=x\r\n"
    b"content-length: 2000000\r\n\r\n"
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
)


def send(server: Running) -> int:
    """A whole upload; its status."""
    file = {"file": ("x.jsonl", b"y" * SIZE)}
    return server.http.post("/v1/files", data={"purpose": "batch"}, files=file).status_code


def break_off(server: Running) -> None:
    """A crowd sends a part of its uploads and hangs up."""
    url = httpx2.URL(server.url)
    with ExitStack() as clients:
        for _ in range(CROWD):
            client = clients.enter_context(socket.create_connection((url.host, url.port)))
            client.sendall(HEAD + b"z" * SIZE)


def test_a_crowd_that_breaks_off_its_uploads_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as server:
        assert send(server) == 200
        process, database = psutil.Process(server.pid), tmp_path / "state" / "batches.db"
        before, sizes = process.memory_info().rss, []
        for _ in range(4):
            break_off(server)
            assert send(server) == 200
            sizes.append(database.stat().st_size)
        # All that was sent would be 57 MiB each time.
        assert max(sizes) < 40 * MIB, "of those that have hung up little is written"
        server.until(lambda: database.stat().st_size < 8 * SIZE)
        assert process.memory_info().rss - before < 100 * MIB
        assert len(server.http.get("/v1/files").json()["data"]) == 5
        break_off(server)
        assert server.stop() == 0
        log = server.log.read_text()
        assert "Traceback" not in log
        assert '"level":"error"' not in log

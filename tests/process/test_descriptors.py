"""Clients never take the last file descriptor, however few there are."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx2
import psutil
import pytest

from harness import COMMAND, PATIENCE, Running, home, serving

pytestmark = pytest.mark.process

CONFIG = """
device: {budget: 256MiB}
server: {max_connections: 1000}
models:
  a: {engine: fake}
  b: {engine: fake, options: {idle: 104857600}}
"""
LIMIT = 200


def limited(files: int) -> list[str]:
    """In front of a command that may have so many files open."""
    return ["sh", "-c", f'ulimit -n {files} && exec "$0" "$@"']


@contextmanager
def half_requests(server: Running, count: int) -> Iterator[None]:
    """Clients that have begun to ask and go no further."""
    url = httpx2.URL(server.url)
    with ExitStack() as clients:
        for _ in range(count):
            client = clients.enter_context(socket.create_connection((url.host, url.port)))
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n")
        yield


def served(server: Running, name: str) -> bool:
    """Whether a chat is answered, and not refused or cut off."""
    try:
        return server.chat(model=name).status_code == 200
    except httpx2.HTTPError:
        return False


def test_a_crowd_that_takes_all_connections_leaves_files_for_models(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG, within=limited(LIMIT)) as server:
        said = f"{LIMIT} files may be open, so 60 connections are taken instead of 1000"
        server.until(lambda: said in server.log.read_text())
        with half_requests(server, 3 * LIMIT):
            assert psutil.Process(server.pid).num_fds() < LIMIT - 20
            for name in ("a", "b"):  # refused at first, until those that only began to ask have had their time
                server.until(partial(served, server, name))
            status = server.status()
        assert [(model["loads"], model["failure"]) for model in status["models"]] == [(1, ""), (1, "")]
        assert not status["alerts"]
        assert server.chat(model="a").status_code == 200


def test_where_there_are_too_few_for_any_client_it_says_so(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    command: list[str | Path] = [*limited(60), COMMAND, "serve", config, "--port", "0"]
    env = os.environ | {"COHABIT_HOME": str(home(tmp_path))}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "60 files may be open, and at least 82 are needed" in done.stderr

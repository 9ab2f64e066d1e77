"""A whole server inside this process, as programs that embed one use it."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx2
import psutil
import pytest

from cohabit.config.load import parse_config
from cohabit.config.model import Config
from cohabit.core.commands import Command, Dispatch
from cohabit.server import ModelNeverFits, Running, StartError, serve
from harness import PATIENCE

pytestmark = pytest.mark.process

CONFIG = "device: {budget: 300MiB, keep_free: 0}\nmodels: {a: {engine: fake, options: {tokens: 3}}}\n"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COHABIT_HOME", str(tmp_path))


def config(text: str = CONFIG) -> Config:
    return parse_config(text, Path("/"))


def dispatched(commands: Sequence[Command]) -> bool:
    return any(isinstance(command, Dispatch) for command in commands)


async def chat(running: Running) -> httpx2.Response:
    body = {"model": "a", "messages": [{"role": "user", "content": "x"}]}
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(f"{running.url}/v1/chat/completions", json=body)


async def test_server_answers_while_its_block_lasts_and_leaves_no_worker() -> None:
    async with serve(config(), port=0) as running:
        answer = await chat(running)
        assert answer.json()["usage"]["completion_tokens"] == 3
        (worker,) = running.service.status()["models"]
        assert psutil.pid_exists(worker["pid"])
    assert not psutil.pid_exists(worker["pid"])
    with pytest.raises(httpx2.ConnectError):
        await chat(running)


async def test_what_was_accepted_is_answered_after_the_block_is_left() -> None:
    slow = "models: {a: {engine: fake, options: {tokens: 3, run_seconds: 0.3}}}"
    async with serve(config(slow), port=0) as running:
        begun = asyncio.Event()
        running.service.loop.subscribe(lambda _event, commands, _now: begun.set() if dispatched(commands) else None)
        asked = asyncio.create_task(chat(running))
        await begun.wait()
    assert (await asked).status_code == 200


async def test_workers_end_though_the_drain_is_cancelled() -> None:
    slow = "models: {a: {engine: fake, options: {tokens: 3, run_seconds: 0.5}}}"
    pids: list[int] = []
    begun = asyncio.Event()

    async def program() -> None:
        async with serve(config(slow), port=0) as running:
            running.service.loop.subscribe(
                lambda _event, commands, _now: begun.set() if dispatched(commands) else None
            )
            asked.append(asyncio.create_task(chat(running)))
            await begun.wait()
            pids.append(running.service.status()["models"][0]["pid"])
            leaving.set()

    leaving = asyncio.Event()
    asked: list[asyncio.Task[httpx2.Response]] = []
    task = asyncio.create_task(program())
    await leaving.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pids[0])
    assert (await asked[0]).status_code == 200


async def test_stopped_returns_once_stop_is_called() -> None:
    async with serve(config(), port=0) as running:
        waiting = asyncio.create_task(running.stopped())
        await asyncio.sleep(0)
        assert not waiting.done()
        running.stop()
        await waiting
        assert not running.failed


async def test_signals_are_left_to_the_program() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serve(config(), port=0):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_two_servers_in_one_process_end_apart() -> None:
    async with serve(config(), port=0) as first:
        async with serve(config(), port=0) as second:
            assert first.url != second.url
            assert (await chat(second)).status_code == 200
        assert (await chat(first)).status_code == 200


async def test_port_that_is_taken_is_a_start_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serve(config(), port=port):
                raise AssertionError("it must not start")


async def test_model_that_never_fits_is_an_error_before_anything_listens() -> None:
    large = "device: {budget: 30MiB, keep_free: 0}\nmodels: {a: {engine: fake, options: {idle: 500000000}}}"
    with pytest.raises(ModelNeverFits, match="a can never fit"):
        async with serve(config(large), port=0):
            raise AssertionError("it must not start")


async def test_warnings_are_told() -> None:
    told: list[str] = []
    async with serve(config(CONFIG + "server: {keys: false}\n"), host="0.0.0.0", port=0, tell=told.append):  # noqa: S104 - said to be open
        pass
    assert any(line.startswith("warning: ") for line in told)


def test_example_of_the_docs_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "models.yaml").write_text(CONFIG)
    process = subprocess.Popen([sys.executable, "-uc", snippet], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        assert httpx2.get(f"{url}/v1/models").json()["data"][0]["id"] == "a"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)

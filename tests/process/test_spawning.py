"""A process that is started before there is room for its model: it imports, waits, and loads when it is told."""

import asyncio
import errno
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from cohabit.core.commands import PrewarmWorker, StartWorker, StopCause, StopWorker
from cohabit.core.events import WorkerExited, WorkerReady
from cohabit.protocol.spec import ModelSpec
from cohabit.runtime.workers import supervisor
from cohabit.runtime.workers.process import WorkerProcess
from cohabit.runtime.workers.supervisor import Launch
from cohabit.sources import Cancelled, FetchCancelled, SourceError
from harness import PATIENCE, Running, serving, wait_until
from process.worker_driver import Driver, driving, fake

pytestmark = pytest.mark.process

MIB = 1 << 20
START = StartWorker("m", 1)


async def until_prepared(driver: Driver) -> WorkerProcess:
    """Its process, once it has imported all."""
    driver.effects.execute(PrewarmWorker("m", 1))
    await asyncio.to_thread(wait_until, lambda: driver.supervisor.workers[1].greeted)
    worker = driver.supervisor.workers[1]
    await asyncio.wait_for(worker.done.wait(), PATIENCE)
    assert worker.process is not None
    return worker.process


def embedder() -> Launch:
    """One with a library to import, and nothing to load."""
    spec = ModelSpec(name="m", engine="onnx-embed", source="/nowhere")
    return Launch(lambda _cancelled: spec, threads=1)


async def test_it_imports_waits_and_loads_in_the_same_process() -> None:
    async with driving(fake(idle=80 * MIB, load_seconds=0.2)) as driver:
        process = await until_prepared(driver)
        bare = psutil.Process(process.pid).memory_info().rss
        await asyncio.sleep(0.5)
        assert driver.events.empty()
        ready = await driver.done(START, WorkerReady)
        assert driver.supervisor.processes()[1].pid == process.pid
        assert ready.prewarmed is not None
        assert abs(ready.prewarmed - bare) < 8 * MIB
        assert ready.idle - ready.prewarmed > 70 * MIB, "the model came with the second word"
        assert ready.seconds > 0.2, "what it takes"
        whole = (await driver.stopped(), await driver.started(2))[1].seconds
        assert ready.seconds < whole + 0.4, "and not how long it waited"


async def test_a_library_is_there_before_the_load() -> None:
    async with driving(embedder()) as driver:
        process = await until_prepared(driver)
        maps = {mapped.path for mapped in psutil.Process(process.pid).memory_maps()}
        assert any("onnxruntime" in path for path in maps)
        exited = await driver.done(START, WorkerExited)
        assert exited.permanent, "its files are looked at when it is loaded"


async def test_told_to_load_while_it_still_imports() -> None:
    async with driving(fake(load_seconds=0.1)) as driver:
        driver.effects.execute(PrewarmWorker("m", 1))
        await asyncio.to_thread(wait_until, lambda: driver.supervisor.workers[1].process)
        assert not driver.supervisor.workers[1].greeted
        assert (await driver.done(START, WorkerReady)).worker == 1


async def test_told_to_load_before_there_is_a_process() -> None:
    async with driving(fake(load_seconds=0.1)) as driver:
        driver.effects.execute(PrewarmWorker("m", 1))
        assert driver.supervisor.workers[1].process is None
        assert (await driver.done(START, WorkerReady)).worker == 1


async def test_told_to_leave_it_leaves() -> None:
    async with driving(fake()) as driver:
        process = await until_prepared(driver)
        await driver.done(StopWorker("m", 1, StopCause.UNNEEDED, "for a test"), WorkerExited)
        assert not psutil.pid_exists(process.pid)


async def test_one_that_died_before_it_was_told_to_load_is_no_second_process() -> None:
    async with driving(fake()) as driver:
        process = await until_prepared(driver)
        os.kill(process.pid, signal.SIGKILL)
        await driver.next(WorkerExited)
        driver.effects.execute(START)  # the core had not heard of it
        assert driver.supervisor.workers == {}
        assert (await driver.started(2)).worker == 2


async def test_told_to_leave_while_its_files_are_fetched_it_ends_the_fetch() -> None:
    def fetched(cancelled: Cancelled) -> ModelSpec:
        wait_until(cancelled)
        raise FetchCancelled("for a test")

    async with driving(Launch(fetched, threads=1)) as driver:
        driver.effects.execute(PrewarmWorker("m", 1))
        await driver.done(StopWorker("m", 1, StopCause.UNNEEDED, "for a test"), WorkerExited)
        assert driver.supervisor.workers == {}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
@pytest.mark.parametrize("where", ["files", "process"])
async def test_without_a_file_descriptor_it_is_tried_again_and_is_no_failure(
    number: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "DESCRIPTOR_PAUSE", 0.01)
    free = threading.Event()
    spawn = WorkerProcess.spawn

    def files(_cancelled: Cancelled) -> ModelSpec:
        if where == "files" and not free.is_set():
            raise SourceError("weights cannot be read") from OSError(number, "no more")
        return ModelSpec(name="m", engine="fake", options={})

    async def process(*how: Any, **more: Any) -> WorkerProcess:
        if where == "process" and not free.is_set():
            raise OSError(number, "no more")
        return await spawn(*how, **more)

    monkeypatch.setattr(WorkerProcess, "spawn", process)
    async with driving(Launch(files, threads=1)) as driver:
        with capture_logs() as logged:
            driver.effects.execute(START)
            await asyncio.to_thread(wait_until, lambda: list(driver.supervisor.alerts()))
            await asyncio.sleep(0.1)
            assert driver.events.empty()
            assert "for m;" in next(iter(driver.supervisor.alerts())).text
            free.set()
            assert (await driver.next(WorkerReady)).worker == 1
        assert not list(driver.supervisor.alerts())
        assert [line["log_level"] for line in logged].count("warning") == 1, "told once"


async def test_told_to_leave_while_no_file_descriptor_is_free_it_leaves() -> None:
    def files(_cancelled: Cancelled) -> ModelSpec:
        raise OSError(errno.EMFILE, "no more")

    async with driving(Launch(files, threads=1)) as driver:
        driver.effects.execute(START)
        await asyncio.to_thread(wait_until, lambda: list(driver.supervisor.alerts()))
        await driver.done(StopWorker("m", 1, StopCause.UNNEEDED, "for a test"), WorkerExited)
        assert not list(driver.supervisor.alerts())


def test_beside_a_busy_model_the_next_one_gets_ready(tmp_path: Path) -> None:
    config = f"""
device: {{budget: 200MiB, keep_free: 0}}
scheduling: {{max_wait: 3s, patience: 1000}}
models:
  a: {{engine: fake, options: {{idle: {100 * MIB}, tokens: 4000, token_seconds: 0.001}}}}
  b: {{engine: fake, options: {{idle: {100 * MIB}}}}}
"""

    def chat(server: Running, model: str) -> float:
        body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
        answer = server.http.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        return float(answer.headers["x-cohabit-load-ms"])

    def state(server: Running, model: str) -> tuple[str, int | None]:
        found = {entry["name"]: entry for entry in server.http.get("/admin/status").json()["models"]}
        return found[model]["state"], found[model]["pid"]

    with serving(tmp_path, config) as server:
        cold = chat(server, "b")  # so that it is known what its process takes
        with ThreadPoolExecutor(2) as pool:
            busy = pool.submit(chat, server, "a")
            server.until(lambda: state(server, "a")[0] == "ready")
            later = pool.submit(chat, server, "b")
            server.until(lambda: state(server, "b")[1] is not None)
            how, pid = state(server, "b")
            assert how == "prewarmed"
            assert state(server, "a")[0] == "ready"
            busy.result()
            warm = later.result()
        assert state(server, "b") == ("ready", pid)
        assert warm < cold, "without the start of a process"

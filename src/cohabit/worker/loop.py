"""A worker's life: hello, imports, load, run, sleep and wake, leave.

The main thread reads the link and does nothing that takes long, so that a cancel or a ping is heard while the
engine works; the engine loads, sleeps, wakes and runs in threads of its own.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from cohabit.engines.registry import engine_class
from cohabit.protocol.engine import EngineError
from cohabit.protocol.messages import (
    PROTOCOL_VERSION,
    CancelRun,
    Credit,
    Hello,
    ImportsDone,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Prepare,
    RunBatch,
    Shutdown,
    Sleep,
    SleepDone,
    ToWorker,
    Trim,
    TrimDone,
    Wake,
)
from cohabit.protocol.spec import Device
from cohabit.worker.batch_executor import BatchExecutor
from cohabit.worker.child_process import report, take_group_along
from cohabit.worker.link import Link
from cohabit.worker.loaded_model import LoadedModel
from cohabit.worker.meter import Meter, lacked_memory, meter_for
from cohabit.worker.threads import Threads, begin


class WorkerLoop:
    """One model in one process."""

    def __init__(self, fd: int) -> None:
        """Speak over the socket ``fd``."""
        self._started = time.monotonic()
        self._prepared = 0.0  # seconds that took
        self._bare = 0  # bytes held then
        self._link = Link(fd)
        self._meter: Meter | None = None
        self._model: LoadedModel | None = None
        self._runner: BatchExecutor | None = None
        self._phase = threading.Lock()  # held while the model loads, sleeps, wakes or is trimmed

    @property
    def _held(self) -> Meter:
        assert self._meter is not None, "it is there from the load on"
        return self._meter

    def serve(self) -> int:
        """Until told to shut down (0). A link that ends without a word means that the server is gone."""
        self._link.send(Hello(PROTOCOL_VERSION, os.getpid()))
        while True:
            self._take(self._link.receive())

    def _take(self, message: ToWorker | None) -> None:
        # A frame of its own: what a request held would otherwise stay until the next one comes.
        match message:
            case Prepare(engine, device):
                self._begin("importing", lambda: self._prepare(engine, device))
            case Load() as load:
                self._begin("loading", lambda: self._load(load))
            case RunBatch(batch) if self._runner is not None:
                self._runner.submit(batch)
            case CancelRun(request) if self._runner is not None:
                self._runner.cancel(request)
            case Credit() as credit:
                self._link.credit(credit)
            case Ping():
                self._link.send(Pong(0 if self._runner is None else self._runner.steps))
            case Trim():
                self._begin("trimming", self._trim)
            case Sleep():
                self._begin("falling asleep", self._sleep)
            case Wake():
                self._begin("waking", self._wake)
            case Shutdown():
                self._leave()
            case None:
                take_group_along()
            case unexpected:
                raise RuntimeError(f"{type(unexpected).__name__} before the model was loaded")

    def _begin(self, doing: str, work: Callable[[], None]) -> None:
        begin(doing, lambda: self._attempt(doing, work))

    def _attempt(self, doing: str, work: Callable[[], None]) -> None:
        try:
            with self._phase:
                work()
        except EngineError as error:
            self._link.send(LoadFailed(str(error), permanent=True))
        except Exception as error:
            if lacked_memory(error):
                self._link.send(LoadFailed(f"out of memory while {doing}", out_of_memory=True))
                return
            report(error)
            text = f": {error}" if self._runner is None else ""  # later it might quote what a client sent
            self._link.send(LoadFailed(f"{type(error).__name__} while {doing}{text}"))

    def _prepare(self, engine: str, device: Device) -> None:
        self._import(engine, device)
        self._link.send(ImportsDone())

    def _import(self, engine: str, device: Device) -> Meter:
        """Once, and all that needs no room."""
        if self._meter is None:
            for name in engine_class(engine).imports:
                with suppress(ImportError):  # ``load`` says what is missing, and how to get it
                    import_module(name)
            meter = meter_for(device)
            self._bare = meter.read()[1]
            self._prepared = time.monotonic() - self._started
            self._meter = meter
        return self._meter

    def _load(self, load: Load) -> None:
        meter = self._import(load.spec.engine, load.device)
        began = time.monotonic() - self._prepared
        meter.begin()
        self._model = model = LoadedModel(load.spec, load.device)
        engine = model.load()
        self._runner = BatchExecutor(engine, self._link, Threads(model.threads), meter)
        self._ready(since=began, bare=self._bare)

    def _wake(self) -> None:
        model, runner, began = self._model, self._runner, time.monotonic()
        assert model is not None
        assert runner is not None
        self._held.begin()
        runner.engine = model.wake()
        self._ready(since=began)

    def _ready(self, *, since: float, bare: int | None = None) -> None:
        assert self._model is not None
        peak, resident = self._held.read()
        self._held.end()
        self._link.send(Loaded(resident, peak, time.monotonic() - since, self._model.copied, bare))

    def _sleep(self) -> None:
        model, runner, began = self._model, self._runner, time.monotonic()
        assert model is not None
        assert runner is not None
        runner.settle()
        runner.engine = None
        model.sleep()
        self._link.send(SleepDone(self._held.read()[1], time.monotonic() - began))

    def _trim(self) -> None:
        model, runner = self._model, self._runner
        assert model is not None
        assert runner is not None
        runner.settle()
        model.trim()
        self._link.send(TrimDone(self._held.read()[1]))

    def _leave(self) -> None:
        # Told in the middle of a load or a sleep it just goes: the process ends and all of it comes free.
        if self._model is not None and self._phase.acquire(blocking=False):
            self._model.close()
        self._link.leave()
        # Threads of native libraries may not end by themselves, and nothing is left to be saved.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

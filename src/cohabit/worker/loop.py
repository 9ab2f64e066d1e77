"""A worker's life: hello, load, run, leave.

The main thread reads the link and does nothing that takes long, so that a cancel or a ping is heard while the
engine works; the engine loads and runs in threads of its own.
"""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from cohabit.engines.registry import engine_class
from cohabit.protocol.engine import Engine, EngineError
from cohabit.protocol.memory import peak_bytes, reset_peak, resident_bytes
from cohabit.protocol.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Credit,
    Hello,
    Load,
    Loaded,
    LoadFailed,
    Ping,
    Pong,
    Run,
    Shutdown,
    Trim,
    Trimmed,
)
from cohabit.worker.link import Link
from cohabit.worker.parent import take_group_along
from cohabit.worker.reporting import report
from cohabit.worker.run import Runner


class Worker:
    """One model in one process."""

    def __init__(self, fd: int) -> None:
        """Speak over the socket ``fd``."""
        self._started = time.monotonic()
        self._link = Link(fd)
        self._engine: Engine | None = None
        self._runner: Runner | None = None

    def serve(self) -> int:
        """Until told to shut down (0). A link that ends without a word means that the server is gone."""
        self._link.send(Hello(PROTOCOL_VERSION, os.getpid()))
        while True:
            match self._link.receive():
                case Load() as load:
                    threading.Thread(target=self._load, args=(load,), name="load", daemon=True).start()
                case Run(batch) if self._runner is not None:
                    self._runner.submit(batch)
                case Cancel(request) if self._runner is not None:
                    self._runner.cancel(request)
                case Credit() as credit:
                    self._link.credit(credit)
                case Ping():
                    self._link.send(Pong(time.process_time()))
                case Trim() if self._engine is not None:
                    self._engine.trim()
                    self._link.send(Trimmed(resident_bytes()))
                case Shutdown():
                    if self._engine is not None:
                        self._engine.close()
                    self._link.leave()
                    # Threads of native libraries may not end by themselves, and nothing is left to be saved.
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(0)
                case None:
                    take_group_along()
                case unexpected:
                    raise RuntimeError(f"{type(unexpected).__name__} before the model was loaded")

    def _load(self, load: Load) -> None:
        spec = load.spec
        try:
            reset_peak()
            engine = engine_class(spec.engine)()
            engine.load(spec, load.device)
            engine.warmup()
        except MemoryError:
            self._link.send(LoadFailed("out of memory while loading", out_of_memory=True))
        except EngineError as error:
            self._link.send(LoadFailed(str(error), permanent=True))
        except Exception as error:
            report(error)
            self._link.send(LoadFailed(f"{type(error).__name__}: {error}"))
        else:
            pool = ThreadPoolExecutor(spec.concurrency if engine.continuous else 1, thread_name_prefix="run")
            self._engine = engine
            self._runner = Runner(engine, self._link, pool)
            seconds = time.monotonic() - self._started
            self._link.send(Loaded(resident_bytes(), peak_bytes(), seconds))
            reset_peak()

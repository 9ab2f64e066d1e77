"""The one model of this process: brought in, put to sleep, woken, closed."""

import gc

from cohabit.engines.registry import engine_class
from cohabit.protocol.engine import Engine
from cohabit.protocol.memory import give_back
from cohabit.protocol.spec import Device, ModelSpec


class LoadedModel:
    """Remembers how it was loaded, so that engines which keep nothing asleep can be loaded anew."""

    def __init__(self, spec: ModelSpec, device: Device) -> None:
        """Nothing is loaded yet. Raises KeyError for an engine that is not there."""
        self.engine: Engine | None = None  # asleep it is there only if it keeps something
        self._class = engine_class(spec.engine)
        self._spec = spec
        self._device = device

    @property
    def threads(self) -> int:
        """From how many the engine may be called at once."""
        return self._spec.concurrency if self._class.continuous else 1

    @property
    def copied(self) -> int:
        """Bytes in host memory from which it would wake."""
        return self.engine.copied if self.engine is not None else 0

    def load(self) -> Engine:
        """Bring it in. Raises as ``Engine.load``."""
        engine = self._class()
        engine.load(self._spec, self._device)
        engine.warmup()
        engine.trim()  # what loading took and left is no part of what the model holds
        self.engine = engine
        return engine

    def sleep(self) -> None:
        """Let go of what it holds, as far as the engine can."""
        assert self.engine is not None
        if not self.engine.sleep():
            self.engine.close()
            self.engine = None
        gc.collect()  # sessions of libraries may hang in cycles
        give_back()

    def wake(self) -> Engine:
        """Bring it back. Raises as ``Engine.load``."""
        if self.engine is None:
            return self.load()
        self.engine.wake()
        return self.engine

    def trim(self) -> None:
        """Give back what its allocators keep."""
        assert self.engine is not None
        self.engine.trim()

    def close(self) -> None:
        """Let go of everything."""
        if self.engine is not None:
            self.engine.close()
            self.engine = None

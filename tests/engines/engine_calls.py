"""Calls an engine as a worker would."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from cohabit.protocol.engine import Chunk, Engine, EngineRequest, ItemError
from cohabit.protocol.memory import peak_and_resident, reset_peak, resident_bytes
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task

E = TypeVar("E", bound=Engine)


@contextmanager
def loaded(engine: E, spec: ModelSpec) -> Iterator[E]:
    """Loaded and warm, on the cpu."""
    engine.load(spec, Device("cpu"))
    engine.warmup()
    engine.trim()
    yield engine
    engine.close()


def request_of(task: Task, body: dict[str, Any], number: int = 0) -> EngineRequest:
    """One item of work."""
    return EngineRequest(number, task, json.dumps(body).encode())


def run(
    engine: Engine, task: Task, *bodies: dict[str, Any], cancelled: Callable[[int], bool] = lambda _: False
) -> dict[int, list[Chunk | ItemError]]:
    """Outputs by number of the body."""
    batch = [request_of(task, body, number) for number, body in enumerate(bodies)]
    outputs: dict[int, list[Chunk | ItemError]] = {number: [] for number in range(len(bodies))}
    for output in engine.run(batch, cancelled):
        outputs[output.id].append(output)
    return outputs


def answer(engine: Engine, task: Task, body: dict[str, Any]) -> dict[str, Any]:
    """The one chunk of a plain answer."""
    (output,) = run(engine, task, body)[0]
    assert isinstance(output, Chunk), output
    found: dict[str, Any] = json.loads(output.data)
    return found


def pieces(engine: Engine, task: Task, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    outputs = run(engine, task, {**body, "stream": True})[0]
    assert all(isinstance(output, Chunk) for output in outputs), outputs
    return [json.loads(output.data) for output in outputs if isinstance(output, Chunk)]


def refusal(engine: Engine, task: Task, body: dict[str, Any]) -> ItemError:
    """The error of a request that is refused."""
    (output,) = run(engine, task, body)[0]
    assert isinstance(output, ItemError), output
    return output


def memory_taken(kind: type[Engine], spec: ModelSpec, task: Task, *bodies: dict[str, Any]) -> tuple[int, int]:
    """Bytes that a run takes beyond what is loaded: at most, and after a trim.

    In a process of its own, as in a worker: in one that tests have used, other memory comes and goes.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_memory_taken, kind, spec, task, bodies).result()


def _memory_taken(
    kind: type[Engine], spec: ModelSpec, task: Task, bodies: tuple[dict[str, Any], ...]
) -> tuple[int, int]:
    with loaded(kind(), spec) as engine:
        before = resident_bytes()
        reset_peak()
        run(engine, task, *bodies)
        peak = peak_and_resident()[0]
        engine.trim()
        return peak - before, resident_bytes() - before

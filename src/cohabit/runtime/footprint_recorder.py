"""Keeps on disk what the core learns of its models."""

from collections.abc import Sequence

from cohabit.config.model import Config
from cohabit.core.commands import Command, StartWorker
from cohabit.core.events import Event, RequestFinished, Slept, WorkerExited, WorkerReady
from cohabit.core.footprints import Ewma, Figure, MeasuredRun, Origin
from cohabit.core.model_state import Model
from cohabit.runtime.profile_store import Profile, ProfileStore, profile_key


class FootprintRecorder:
    """Writes after loads, sleeps, wakes and exits, and when a run shows that more is needed than was known.

    The time of runs changes with each of them, so it is written when anything else is.
    """

    def __init__(self, config: Config, models: Sequence[Model], footprints: ProfileStore) -> None:
        """``models`` are the core's own, read after each event that may have taught it something."""
        self._keys = {name: profile_key(model, config.device.kind) for name, model in config.models.items()}
        self._models = {model.name: model for model in models}
        self._known = {model.name: _learned(model) for model in models}
        self._workers: dict[int, Model] = {}
        self._footprints = footprints

    def handled(self, event: Event, commands: Sequence[Command], _now: float) -> None:
        """A ``control_loop.Observe``."""
        match event:
            case WorkerReady(worker) | Slept(worker) if worker in self._workers:
                self._keep(self._workers[worker])
            case WorkerExited(worker) if worker in self._workers:
                model = self._workers.pop(worker)
                if event.seconds > 0 and self._footprints.find(self._keys[model.name]) is not None:
                    self._keep(model)  # one that never came up has taught nothing
            case RequestFinished(_, worker) if worker in self._workers:
                model = self._workers[worker]
                if _learned(model) != self._known[model.name]:
                    self._keep(model)
            case _:
                pass
        for command in commands:
            if isinstance(command, StartWorker):
                self._workers[command.worker] = self._models[command.model]

    def _keep(self, model: Model) -> None:
        footprint, key = model.footprint, self._keys[model.name]
        seen = self._footprints.find(key) or Profile(model=model.name, idle=0, load=0, load_seconds=0.0)
        self._known[model.name] = _learned(model)
        profile = Profile(
            model=model.name,
            idle=footprint.idle.size,
            load=_bytes(footprint.load, seen.load) or 0,
            activation=max(_bytes(footprint.activation, None) or 0, seen.activation),
            sleep_resident=_bytes(footprint.sleep_resident, seen.sleep_resident),
            host_copy=_bytes(footprint.host_copy, seen.host_copy),
            prewarmed=footprint.prewarmed,
            load_seconds=round(footprint.load_seconds.value, 3),
            exit_seconds=_seconds(footprint.exit_seconds, seen.exit_seconds),
            sleep_seconds=_seconds(footprint.sleep_seconds, seen.sleep_seconds),
            wake_seconds=_seconds(footprint.wake_seconds, seen.wake_seconds),
            run_seconds=_seconds(footprint.run_seconds, seen.run_seconds),
            buckets=dict(footprint.buckets),
        )
        self._footprints.record(key, profile)


def _learned(model: Model) -> tuple[Figure, dict[int, MeasuredRun]]:
    """What runs teach of memory."""
    return model.footprint.activation, dict(model.footprint.buckets)


def _bytes(figure: Figure | None, before: int | None) -> int | None:
    """As measured by this process or an earlier one, else as ``before``."""
    return figure.size if figure is not None and figure.origin is Origin.MEASURED else before


def _seconds(average: Ewma, before: float | None) -> float | None:
    return round(average.value, 3) if average.measured else before

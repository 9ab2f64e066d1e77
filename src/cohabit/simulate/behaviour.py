"""What a model really takes in virtual time, and the core's model that knows it."""

from dataclasses import dataclass

from cohabit.core.footprints import Figure, Footprint, Origin
from cohabit.core.model_state import Model, ModelPolicy

EXIT_SECONDS = 0.02  # to kill and reap a process


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Bytes and seconds. Without ``wake_seconds`` it cannot sleep."""

    idle: int
    load: int
    activation: int
    load_seconds: float
    wake_seconds: float | None = None
    sleep_seconds: float = 0.0
    sleep_resident: int = 0
    host_copy: int | None = None  # in host memory, by which alone it sleeps
    exit_seconds: float = EXIT_SECONDS
    prewarmed: int | None = None  # by its process before the load; None: that is not started ahead


def known_model(policy: ModelPolicy, behaviour: Behaviour) -> Model:
    """As the core knows a model on a server that has measured it in an earlier life."""

    def measured(size: int) -> Figure:
        return Figure(size, Origin.MEASURED)

    sleeps = behaviour.wake_seconds is not None
    footprint = Footprint(
        idle=measured(behaviour.idle),
        load=measured(behaviour.load),
        activation=measured(behaviour.activation),
        sleep_resident=measured(behaviour.sleep_resident) if sleeps else None,
        host_copy=None if behaviour.host_copy is None else measured(behaviour.host_copy),
        prewarmed=behaviour.prewarmed,
        load_seconds=behaviour.load_seconds,
        exit_seconds=behaviour.exit_seconds,
        sleep_seconds=behaviour.sleep_seconds if sleeps else None,
        wake_seconds=behaviour.wake_seconds,
    )
    return Model(policy, footprint)

"""Whether a model can do all that a request asks for."""

from collections.abc import Mapping

from cohabit.api.errors import BadRequest
from cohabit.protocol.capabilities import Ability
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import ModelInfo, Service


def require(service: Service, info: ModelInfo, task: Task, needed: Mapping[str, Ability], prefix: str = "") -> None:
    """Raises BadRequest for the first field that asks for what the model cannot do, naming those that can.

    ``needed`` has an ability by the field that asks for it; ``prefix`` goes before the field's name.
    """
    for field, ability in needed.items():
        if ability in info.abilities:
            continue
        able = [other.name for other in service.models.values() if task in other.tasks and ability in other.abilities]
        can = f"models that can: {', '.join(able)}" if able else "no configured model can"
        raise BadRequest(
            f"{info.name} cannot {ability}; {can}", param=f"{prefix}{field}", code="unsupported_parameter"
        )

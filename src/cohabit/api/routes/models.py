"""Which model a request means; ``/v1/models``."""

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.context import service_of
from cohabit.api.errors import BadRequest, NotFound
from cohabit.api.openapi import only
from cohabit.api.routing import Router, json_response
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import ModelInfo, Service
from cohabit.schemas.answers import ModelEntry, ModelList

router = Router("models", only())

_VERBS = {
    Task.CHAT: "chat",
    Task.COMPLETE: "complete text",
    Task.DESCRIBE: "describe pictures",
    Task.EMBED: "make embeddings",
}


def choose(service: Service, name: str | None, task: Task, *, unnamed: str = "type") -> ModelInfo:
    """The model of that name or alias, if it has the task; without a name the first that has.

    ``unnamed`` is the field it is about if no model is named and none can. Raises NotFound, BadRequest.
    """
    if name is not None and (known := service.models.get(name)) is not None and task in known.tasks:
        return known
    able = [info for info in service.models.values() if task in info.tasks]
    verb = _VERBS.get(task, task.value)
    can = f"models that can {verb}: {', '.join(info.name for info in able)}" if able else f"no model can {verb}"
    if name is None:
        # Who names none and sends no picture does not mean a model that only tells of pictures.
        first = next((info for info in able if task is not Task.CHAT or not info.needs_picture), None)
        if first is None:
            raise BadRequest(f"no model is configured that can {verb}", param=unnamed, code="unsupported_task")
        return first
    info = find(service, name)
    if task not in info.tasks:
        raise BadRequest(f"{info.name} cannot {verb}; {can}", param="model", code="unsupported_task")
    return info


def find(service: Service, name: str) -> ModelInfo:
    """By name or alias. Raises NotFound naming what there is."""
    info = service.models.get(name)
    if info is not None:
        return info
    for other in service.models.values():
        if name in other.aliases:
            return other
    raise NotFound(
        f"there is no such model; configured are {', '.join(service.models)}", code="model_not_found", param="model"
    )


def _entry(info: ModelInfo, name: str) -> ModelEntry:
    return ModelEntry(id=name, created=info.created, root=UNSET if name == info.name else info.name)


@router.get("/v1/models", answer=ModelList)
async def list_models(request: Request) -> Response:
    """All models, aliases included."""
    infos = service_of(request).models.values()
    entries = [_entry(info, name) for info in infos for name in (info.name, *info.aliases)]
    return json_response(ModelList(data=entries))


@router.get("/v1/models/{name:path}", answer=ModelEntry, responses=only(404))
async def get_model(request: Request) -> Response:
    """One model by name or alias."""
    name = request.path_params["name"]
    return json_response(_entry(find(service_of(request), name), name))

"""The app: routes, errors, middleware put together."""

from fastapi import FastAPI

from cohabit.api import (
    batch,
    chat,
    documents,
    embeddings,
    errors,
    health,
    inference,
    models,
    speech,
    transcriptions,
)
from cohabit.api.middleware import RequestLog
from cohabit.api.streams import PACE, Pace
from cohabit.runtime.service import Service


def create_app(service: Service, version: str = "0", *, pace: Pace = PACE) -> FastAPI:
    """An app over a running service. The interactive docs are off: they would load scripts from elsewhere."""
    app = FastAPI(
        title="cohabit",
        version=version,
        description="Many AI models on one GPU behind one OpenAI-compatible server.",
        docs_url=None,
        redoc_url=None,
        responses=documents.only(500),
    )
    app.state.service = service
    app.state.pace = pace
    for module in (chat, embeddings, speech, transcriptions, models, inference, batch, health):
        app.include_router(module.router)
    errors.install(app)
    documents.install(app)
    app.add_middleware(RequestLog)
    return app

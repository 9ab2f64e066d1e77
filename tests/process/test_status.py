"""What a running server tells of itself is what the document says."""

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from api.fake_service import conforming
from cohabit.api.routes.status import RunningRequest, WaitingRequest
from harness import Running, chat_over_socket, serving

pytestmark = pytest.mark.process

CONFIG = """
device: {kind: cpu, budget: 256MiB}
scheduling: {patience: 0}
models:
  busy: {engine: fake, aliases: [alias], options: {idle: 104857600, run_seconds: 30}}
  next: {engine: fake, options: {idle: 104857600}}
  broken: {engine: fake, options: {fail: load}}
"""


def accepted(server: Running, name: str) -> bool:
    """Whether the model has a request."""
    model = server.model(name)
    return bool(model["in_flight"] or model["waiting"])


def test_while_one_runs_and_another_waits_for_its_room(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as server, ExitStack() as open_chats:
        stopped = conforming(server.status())
        assert {model.pid for model in stopped.models} == {None}
        assert server.chat(model="broken").status_code == 503
        for model in ("busy", "next"):
            body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
            open_chats.enter_context(closing(chat_over_socket(server, body)))
            server.until(partial(accepted, server, model))
        server.until(lambda: server.status()["swap"])
        status = conforming(server.status())
        busy, _, broken = status.models
        assert busy.pid in server.workers()
        assert busy.footprint.idle.origin == "measured"
        assert broken.failure
        assert {(request.model, type(request)) for request in status.requests} == {
            ("busy", RunningRequest),
            ("next", WaitingRequest),
        }
        assert status.swap is not None
        assert status.devices[0].total is not None

"""Ray Serve with one replica, as cohabit has one worker: ``python rayserve.py PORT ANSWER``."""

import contextlib
import json
import signal
import sys
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

ANSWER: dict[str, Any] = json.loads(sys.argv[2])


@serve.deployment(max_ongoing_requests=128)  # more than its default of 5, which would hold it back here
class Nothing:
    """The same answer to everything."""

    async def __call__(self, request: Request) -> dict[str, Any]:
        """No work."""
        await request.json()
        return ANSWER


ray.init(include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
try:
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Nothing.bind(), route_prefix="/v1/embeddings")  # type: ignore[attr-defined]  # the decorator gives it
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
finally:
    ray.shutdown()

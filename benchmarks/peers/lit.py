"""LitServe with one worker, as cohabit has one: ``python lit.py PORT ANSWER``."""

import json
import sys
from typing import Any

import litserve

ANSWER: dict[str, Any] = json.loads(sys.argv[2])


class Nothing(litserve.LitAPI):  # type: ignore[misc]  # LitServe is not installed where this is checked
    """The same answer to everything."""

    def setup(self, device: str) -> None:
        """No model."""

    def predict(self, body: dict[str, Any]) -> dict[str, Any]:
        """No work."""
        return ANSWER


if __name__ == "__main__":
    server = litserve.LitServer(Nothing(api_path="/v1/embeddings"), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)

"""One request for a model that is not in, while clients keep another one busy without end: both are served.

How soon is promised in virtual time by ``tests/simulate/test_no_starvation.py`` and measured by
``benchmarks/starvation.py``.
"""

from pathlib import Path

import pytest

from harness import wait_until
from starving import Busy, asking, of_two_one_fits

pytestmark = [pytest.mark.process, pytest.mark.model]


def test_busy_model_gives_way_and_comes_back(tmp_path: Path) -> None:
    with of_two_one_fits(tmp_path) as server:
        busy = Busy(server.url)
        with busy.going():
            wait_until(lambda: busy.runs)
            answer = server.http.post("/v1/chat/completions", json=asking("b", 1, "Hello."))
            answered = len(busy.runs)
            wait_until(lambda: len(busy.runs) > answered + 6)
        status = {model["name"]: model for model in server.status()["models"]}
    assert answer.status_code == 200
    assert not busy.failed
    assert status["b"]["loads"] == 1
    assert status["a"]["loads"] == 2, "it left once, and came back once"

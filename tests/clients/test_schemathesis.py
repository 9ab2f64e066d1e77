"""Thousands of requests that Schemathesis makes of the OpenAPI document, and what the document says of the answers.

Of every answer: no 500, a 429 or 503 only with a code and ``Retry-After``, and no status, content type, header or
body that is not in the document. What is sent is in ``schemathesis/``.
"""

import json
from collections import Counter
from collections.abc import Mapping

import pytest

from clients.environments import CLEAN, HERE, program, said
from harness import Running

pytestmark = [pytest.mark.process, pytest.mark.clients, pytest.mark.timeout(1200)]

FOLDER = HERE / "schemathesis"
WORKING = ("chat/completions", "completions", "embeddings")


@pytest.fixture(scope="module")
def statuses(fake: Running, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, int]:
    """How many answers there were by operation and status, after all of them were as they should be."""
    folder = tmp_path_factory.mktemp("schemathesis")
    tally = folder / "tally.json"
    environment = CLEAN | {"PYTHONPATH": str(FOLDER), "SCHEMATHESIS_HOOKS": "hooks", "TALLY": str(tally)}
    command = [program("schemathesis", "st"), "--config-file", str(FOLDER / "schemathesis.toml"), "run"]
    said([*command, f"{fake.url}/openapi.json"], env=environment, cwd=folder, timeout=1100)
    counted: dict[str, int] = json.loads(tally.read_text())
    return counted


def test_every_answer_is_in_the_document(statuses: Mapping[str, int]) -> None:
    assert sum(statuses.values()) > 2000


def test_every_way_to_end_was_seen(statuses: Mapping[str, int]) -> None:
    by_status = Counter[str]()
    for key, count in statuses.items():
        by_status[key.rpartition(" ")[2]] += count
    assert by_status["500"] == 0
    for status in ("200", "400", "404", "405", "502", "503"):
        assert by_status[status] >= 3, f"{status} was hardly seen"
    for route in WORKING:
        assert statuses[f"POST /v1/{route} 200"] > 10  # the fake engine refuses tools, formats and the like


def test_the_server_is_unharmed(fake: Running, statuses: Mapping[str, int]) -> None:
    assert statuses
    assert fake.chat(model="fake").status_code == 200
    assert fake.model("fake")["in_flight"] == 0
    assert "unexpected error" not in fake.log.read_text()
    assert "Traceback" not in fake.log.read_text()

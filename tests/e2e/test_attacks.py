"""Real models under attack: honest clients are served or told clearly, the budget holds, nothing is left broken."""

import json
from collections.abc import Iterator

import psutil
import pytest

from attackers import ATTACKS, Attack, Honest
from harness import Running, Watch, memory_watch, preset, serving

MIB = 1 << 20
BUDGET = 1024 * MIB
MAX_WAIT = 10.0  # seconds
RELOAD = 15.0  # seconds, on a slow and busy machine
SECONDS = 5.0  # of each attack
CONTROL_PLANE = 512 * MIB  # what all attacks together may leave; benchmarks/attacks.py measures what each takes
KINDS = ("llm", "embeddings", "vision", "stt")

pytestmark = [pytest.mark.process, pytest.mark.model]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Four models of the preset in a budget that does not hold them all."""
    config = json.loads(preset(*KINDS))
    config["scheduling"] = {"max_wait": f"{MAX_WAIT:g}s"}
    folder = tmp_path_factory.mktemp("attacks")
    with serving(folder, json.dumps(config), "--budget", f"{BUDGET}") as running:
        yield running
        assert "Traceback" not in running.log.read_text()


def longest_over(memory: Watch, limit: int) -> float:
    """Seconds of the longest stretch in which every sample was over the limit."""
    longest, since = 0.0, None
    for at, sample in zip(memory.moments, memory.samples, strict=True):
        if sample <= limit:
            since = None
            continue
        since = at if since is None else since
        longest = max(longest, at - since)
    return longest


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_honest_clients_are_served_or_refused_in_time_during_an_attack(server: Running, attack: Attack) -> None:
    limit = MAX_WAIT + 5.0 + RELOAD
    honest = Honest(server, limit, KINDS)
    with memory_watch(server.pid) as memory, attack.under_way(server, SECONDS):
        honest.work(SECONDS)
    wrong = [answer for answer in honest.answers if answer.status not in {200, 429, 503}]
    assert not wrong, wrong
    assert all(answer.code for answer in honest.answers if answer.status != 200), "a refusal says why"
    assert memory.most <= BUDGET + 64 * MIB
    assert longest_over(memory, BUDGET) <= 0.2
    assert psutil.Process(server.pid).memory_info().rss < CONTROL_PLANE
    after = Honest(server, limit, KINDS)
    after.work()
    assert [answer.status for answer in after.answers] == [200] * len(KINDS), after.answers
    assert server.http.get("/health/ready").status_code == 200

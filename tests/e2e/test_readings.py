"""Nobody waits for the next look at the device longer than a look takes."""

import time
from pathlib import Path

import pytest

from harness import serving

pytestmark = pytest.mark.process

MIB = 1 << 20
# Both are in, and one can run at a time: 2 x 90 + 200 of 400 MiB.
CONFIG = f"""
device: {{kind: cpu, budget: 400MiB}}
models:
  a: &model
    engine: fake
    footprint: {{resident: 90MiB, working: 200MiB}}
    options: {{resident: {20 * MIB}, working: {150 * MIB}}}
  b: *model
"""


def test_what_one_has_given_back_another_has_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG, measured=True) as server:
        took = []
        for turn in range(10):
            began = time.monotonic()
            assert server.chat(model="ab"[turn % 2]).status_code == 200
            took.append(time.monotonic() - began)
            time.sleep(
                0.3
            )  # the case: who comes once the other has long ended, when nothing else has a reading taken
        loads = [server.model(name)["loads"] for name in "ab"]
    assert loads == [1, 1]
    assert sorted(took[2:])[-2] < 0.3, f"read on demand it takes about 0.1 s, otherwise up to a second: {took}"

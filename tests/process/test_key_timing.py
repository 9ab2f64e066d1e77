"""The time of a wrong key does not tell how much of it is right: measured, as nobody outside could.

The hashes of two keys that differ in a letter have nothing in common, so there is nothing to be seen. This finds a
search that ends early or depends on which key it was, not what differs by nanoseconds; that all are compared to their
end is tested in tests/access/test_keyring.py.
"""

import random
import statistics
import time
from pathlib import Path

import pytest

from cohabit.access.keys import Key, digest_of, new_secret
from cohabit.access.keys_file import Keyring, edited

pytestmark = pytest.mark.process

KEYS = 100
ROUNDS = 400
EACH = 20  # calls that are timed together


def test_a_nearly_right_key_takes_as_long_as_a_wrong_one(tmp_path: Path) -> None:
    secrets = [new_secret() for _ in range(KEYS)]
    with edited(tmp_path / "keys.json") as keys:
        for number, secret in enumerate(secrets):
            keys[str(number)] = Key(name=str(number), digest=digest_of(secret), created=1)
    ring = Keyring(tmp_path / "keys.json")
    sent = {
        "wrong": "x" * len(secrets[0]),
        "nearly the first": secrets[0][:-1] + "!",
        "nearly the last": secrets[-1][:-1] + "!",
        "the first": secrets[0],
        "the last": secrets[-1],
    }
    times: dict[str, list[float]] = {name: [] for name in sent}
    for _ in range(ROUNDS):
        for name in random.sample(list(sent), len(sent)):  # so that what else the machine does meets all alike
            began = time.thread_time()
            for _ in range(EACH):
                ring.find(sent[name])
            times[name].append((time.thread_time() - began) / EACH)
    medians = {name: statistics.median(found) for name, found in times.items()}
    told = {name: f"{seconds * 1e6:.2f} us" for name, seconds in medians.items()}
    assert max(medians.values()) < 1.5 * min(medians.values()), told

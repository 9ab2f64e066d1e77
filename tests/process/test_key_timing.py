"""The time of a wrong key does not tell how much of it is right: measured, as an attacker beside the server could.

Random keys are told apart by their hashes, so that there is nothing to be seen; this would find a comparison that
stops early (a plain ``==`` on long keys), not one that differs by nanoseconds.
"""

import random
import statistics
import time
from pathlib import Path

import pytest

from cohabit.access.keyfile import editing
from cohabit.access.keyring import Keyring
from cohabit.access.keys import Key, digest_of, new_secret

pytestmark = pytest.mark.process

ROUNDS = 400
EACH = 50  # calls that are timed together


def test_a_nearly_right_key_takes_as_long_as_a_wrong_one(tmp_path: Path) -> None:
    secrets = [new_secret().encode() for _ in range(20)]
    with editing(tmp_path / "keys.json") as keys:
        for number, secret in enumerate(secrets):
            keys[str(number)] = Key(name=str(number), digest=digest_of(secret))
    ring = Keyring(tmp_path / "keys.json")
    length = len(secrets[0])
    sent = {
        "wrong": b"x" * length,
        "nearly the first": secrets[0][:-1] + b"!",
        "nearly the last": secrets[-1][:-1] + b"!",
        "the first": secrets[0],
        "the last": secrets[-1],
    }
    times: dict[str, list[float]] = {name: [] for name in sent}
    for _ in range(ROUNDS):
        for name in random.sample(list(sent), len(sent)):  # so that what else the machine does meets all alike
            began = time.perf_counter()
            for _ in range(EACH):
                ring.find(sent[name])
            times[name].append((time.perf_counter() - began) / EACH)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print({name: f"{seconds * 1e6:.2f} us" for name, seconds in medians.items()})  # noqa: T201 - the measurement
    assert max(medians.values()) < 1.2 * min(medians.values()), medians

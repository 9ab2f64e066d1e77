"""A server of real models and one of fake ones, for the tests of one client."""

from collections.abc import Iterator

import pytest

from harness import Running, serving

FAKE = """
device: {kind: cpu, budget: 1GiB}
models:
  fake: {engine: fake, concurrency: 8, aliases: [alias]}
  failing: {engine: fake, options: {fail: load}}
  refusing: {engine: fake, options: {fail: item}}
  crashing: {engine: fake, options: {fail: run}}
  full: {engine: fake, options: {fail: oom}}
  narrow: {engine: fake, queue_limit: 1, options: {run_seconds: 0.2}}
"""


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The preset as it comes."""
    with serving(tmp_path_factory.mktemp("preset")) as running:
        yield running


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A model that works and one for each way to fail."""
    with serving(tmp_path_factory.mktemp("fake"), FAKE) as running:
        yield running

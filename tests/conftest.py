"""Hypothesis's profiles: ``ci`` by default, ``many`` for the core in make test, ``fuzz`` for make fuzz; and logs.

Libraries tell nobody that they are tested, as in workers.
"""

import os
from collections.abc import Iterator
from datetime import timedelta

import pytest
import structlog
from hypothesis import HealthCheck, settings

from cohabit.runtime.workers.process import SILENT

os.environ.update(SILENT)

settings.register_profile(
    "ci", max_examples=150, deadline=None, stateful_step_count=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("many", settings.get_profile("ci"), max_examples=3000)
settings.register_profile("fuzz", settings.get_profile("ci"), max_examples=30000, deadline=timedelta(seconds=5))
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that is run in this process sets up logging for all of it."""
    yield
    structlog.reset_defaults()

"""Hypothesis's profiles (``ci`` by default, ``fuzz`` for make fuzz), programs that tests need, and logs.

Libraries do not see that they are tested, as in workers.
"""

import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

import programs
from cohabit.runtime.workers.process import SILENT

os.environ.update(SILENT)

# The same examples in every run: what it finds must not depend on chance. make fuzz makes new ones.
settings.register_profile(
    "ci",
    max_examples=150,
    deadline=None,
    derandomize=True,
    stateful_step_count=100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "fuzz", settings.get_profile("ci"), max_examples=30000, derandomize=False, deadline=timedelta(seconds=5)
)
settings.load_profile("ci")

MISSING = pytest.StashKey[list[str]]()
LEFT_OUT = pytest.StashKey[Counter[str]]()
"""How many tests are left out for each missing program. Where xdist is used, the sum is known at the end."""
TOLD = "left_out"


def pytest_configure(config: pytest.Config) -> None:
    """Find out once which programs are missing."""
    try:
        config.stash[MISSING] = programs.missing()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[LEFT_OUT] = Counter()
    if (why := programs.refusal(config.stash[MISSING])) is not None:
        raise pytest.UsageError(why)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say in one line what is missing, however quiet the run is."""
    names = session.config.stash[MISSING]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if names and reporter is not None and not hasattr(session.config, "workerinput"):
        reporter.ensure_newline()
        reporter.write_line(programs.announcement(names), yellow=True)


@pytest.hookimpl(trylast=True)  # after -k and -m: what was not asked for is not left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests whose programs are missing."""
    kept = []
    left_out = []
    for item in items:
        lacks = needs(item).intersection(config.stash[MISSING])
        config.stash[LEFT_OUT].update(lacks)
        (left_out if lacks else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def needs(item: pytest.Item) -> set[str]:
    """The programs that a test is marked as needing. UsageError for one that tests/programs.py does not have."""
    names = {name for marker in item.iter_markers("needs") for name in marker.args}
    if unknown := names - programs.PROGRAMS.keys():
        raise pytest.UsageError(f"{item.nodeid} needs {', '.join(sorted(unknown))}, which tests/programs.py lacks")
    return names


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of xdist tells the main process, which collects no tests itself."""
    if hasattr(session.config, "workerinput"):
        session.config.workeroutput[TOLD] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)  # xdist's
def pytest_testnodedown(node: Any) -> None:
    """Each worker collects all tests, so each knows the same."""
    node.config.stash[LEFT_OUT] |= Counter(getattr(node, "workeroutput", {}).get(TOLD, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say it again where it is read."""
    counts = config.stash[LEFT_OUT]
    if counts:
        told = ", ".join(f"{count} without {programs.described([name])}" for name, count in counts.items())
        terminalreporter.ensure_newline()
        terminalreporter.write_line(f"tests left out: {told}", yellow=True)


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that is run in this process sets up logging for all of it."""
    yield
    structlog.reset_defaults()

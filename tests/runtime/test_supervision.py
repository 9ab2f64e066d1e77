"""No task fails unnoticed, and none can be made that could."""

import ast
import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cohabit.runtime import supervision
from cohabit.runtime.supervision import TaskSupervisor, awaited, supervise

SOURCE = Path(__file__).parents[2] / "src" / "cohabit"


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts tasks again at once."""
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.0)


def never(task: str, error: BaseException) -> None:
    raise AssertionError(task) from error


class Failing:
    """A task that raises a few times, then waits."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.begun = 0
        self.well = asyncio.Event()

    async def run(self) -> None:
        self.begun += 1
        if self.left:
            self.left -= 1
            raise ValueError("canary")
        self.well.set()
        await asyncio.Event().wait()


@pytest.mark.usefixtures("no_pause")
async def test_kept_task_that_raises_is_logged_counted_told_and_started_again() -> None:
    tasks, failing = TaskSupervisor(never), Failing(times=2)
    with capture_logs() as logs:
        task = tasks.keep("reader", failing.run)
        await asyncio.wait_for(failing.well.wait(), 5)
    assert failing.begun == 3
    assert tasks.restarts == {"reader": 2}
    assert [entry["task"] for entry in logs] == ["reader"] * 2
    assert [entry["error"] for entry in logs] == ["ValueError"] * 2, "not its text, which may quote a client"
    assert "test_supervision.py" in logs[0]["where"][0]
    assert [alert.text for alert in tasks.alerts()] == [
        "the task 'reader' fails and is started again (2 so far); see the log"
    ]
    task.cancel()


async def test_pause_before_a_restart_doubles_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    failing = Failing(times=7)
    task = TaskSupervisor(never).keep("reader", failing.run)
    await asyncio.wait_for(failing.well.wait(), 5)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    task.cancel()


@pytest.mark.usefixtures("no_pause")
async def test_alert_ends_once_a_task_has_run_well_for_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks, failing = TaskSupervisor(never), Failing(times=1)
    task = tasks.keep("reader", failing.run)
    await asyncio.wait_for(failing.well.wait(), 5)
    assert list(tasks.alerts())
    monkeypatch.setattr(supervision, "RECOVERED_AFTER", 0.0)
    assert list(tasks.alerts()) == []
    task.cancel()


async def test_kept_task_that_returns_is_done() -> None:
    tasks = TaskSupervisor(never)
    done = asyncio.Event()

    async def once() -> None:
        done.set()

    await asyncio.wait_for(tasks.keep("once", once), 5)
    assert done.is_set()
    assert tasks.restarts == {"once": 0}


async def test_error_of_a_supervised_task_reaches_its_supervisor() -> None:
    told: asyncio.Queue[BaseException] = asyncio.Queue()

    async def fails() -> None:
        raise OSError(24, "Too many open files")

    with capture_logs() as logs:
        supervise("opener", fails(), told.put_nowait)
        error = await asyncio.wait_for(told.get(), 5)
    assert isinstance(error, OSError)
    assert logs[0]["error"] == "OSError: [Errno 24] Too many open files", "the system's text is no client's"


async def test_cancelled_task_has_not_failed() -> None:
    told: list[BaseException] = []
    task = supervise("waits", asyncio.sleep(60), told.append)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert told == []


async def test_error_outside_of_any_task_is_logged_without_its_arguments() -> None:
    def fails(text: str) -> None:
        raise ValueError(text)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(TaskSupervisor(never).unhandled)
    with capture_logs() as logs:
        loop.call_soon(fails, "canary")
        await asyncio.sleep(0.01)
    assert logs[0]["error"] == "ValueError"
    assert "canary" not in str(logs)


async def test_awaited_task_hands_its_error_to_whoever_awaits_it() -> None:
    async def fails() -> None:
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        await awaited(fails())


ALONE = {
    "create_task": {"runtime/supervision.py"},
    "ensure_future": set[str](),
    "Thread": {
        "worker/threads.py",  # ends the process if it fails
        "observability/journal.py",  # says so in the log, and the server goes on without
        "observability/log_writer.py",  # is started again by the next line
        "engines/llamacpp/engine.py",  # hands every error to the thread that waits for it
        "runtime/workers/guard.py",  # hands every error to the task that waits for it, which is started again
    },
    "Timer": {"cli/signals.py"},  # ends the process
}
"""Where tasks and threads are made, and why it is noticed there if they fail."""


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_tasks_and_threads_are_made_where_their_failure_is_noticed(path: Path) -> None:
    name = str(path.relative_to(SOURCE))
    tree = ast.parse(path.read_text())
    groups = {variable for node in ast.walk(tree) for variable in task_groups(node)}
    made = {
        called
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (called := callee(node)) in ALONE and owner(node) not in groups
    }
    assert [called for called in made if name not in ALONE[called]] == [], "see runtime/supervision.py"


def callee(call: ast.Call) -> str:
    """The last part of what is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def owner(call: ast.Call) -> str | None:
    """The variable whose method is called."""
    return getattr(call.func.value, "id", None) if isinstance(call.func, ast.Attribute) else None


def task_groups(node: ast.AST) -> set[Any]:
    """Names of task groups, which notice by themselves."""
    if not isinstance(node, ast.AsyncWith):
        return set()
    return {
        getattr(item.optional_vars, "id", None)
        for item in node.items
        if isinstance(item.context_expr, ast.Call) and callee(item.context_expr) == "TaskGroup"
    }

"""Work is done at once where a thread may be had, else in turn; no thread is lost."""

import subprocess
import sys
import threading
import weakref
from functools import partial

import pytest

from cohabit.worker.threads import Threads


def test_as_many_at_once_as_there_may_be_threads() -> None:
    threads = Threads(2)
    together = threading.Barrier(3)
    order: list[int] = []

    def work(number: int) -> None:
        order.append(number)
        if number < 2:
            together.wait(5)

    for number in range(4):
        threads.submit(partial(work, number))
    together.wait(5)
    threads.settle()
    assert sorted(order[:2]) == [0, 1]
    assert sorted(order[2:]) == [2, 3]


def test_no_more_threads_than_are_needed_at_once() -> None:
    threads = Threads(8)
    seen: set[int] = set()
    for _ in range(5):
        threads.submit(lambda: seen.add(threading.get_ident()))
        threads.settle()
    assert len(seen) == 1


def test_work_that_raises_is_reported_without_its_text_and_ends_the_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = threading.Event()
    threads = Threads(1, failed=ended.set)

    def wrong() -> None:
        raise ValueError("canary")

    threads.submit(wrong)
    assert ended.wait(5)
    threads.settle()
    said = capsys.readouterr().err
    assert "ValueError at " in said
    assert "canary" not in said


@pytest.mark.process
def test_thread_that_raises_ends_the_process_with_exit_code_1() -> None:
    code = "import time; from cohabit.worker.threads import begin; begin('x', lambda: 1 / 0); time.sleep(30)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr.split(" at ")[0]) == (1, "ZeroDivisionError")


def test_nothing_of_work_that_is_done_is_kept() -> None:
    threads = Threads(1)
    held = threading.Event()
    gone = weakref.ref(held)
    threads.submit(partial(threading.Event.set, held))
    del held
    threads.settle()
    assert gone() is None

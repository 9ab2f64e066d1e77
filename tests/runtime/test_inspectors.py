"""Who is looked at when, and what becomes of it, on processes that the test drives."""

import asyncio
import gc
import signal
from collections.abc import Callable

import pytest

from cohabit.media import Unreadable
from cohabit.protocol.inspection import Clean, FromInspector, InspectorReady, Picture, PieceRefused, Progress, Sound
from cohabit.protocol.messages import FrameTooLarge
from cohabit.runtime import inspectors
from cohabit.runtime.inspectors import InspectionLimits, Inspectors, TooBusy

NEVER = 1e6  # seconds
ROOM = InspectionLimits(wall=NEVER, idle=NEVER, start=NEVER)
SOON = 5.0  # seconds, of a test that waits for what is due at once


class FakeProcess:
    """Says what it is told to, and ends when it is killed."""

    def __init__(self, pid: int, say: Callable[[FromInspector], None]) -> None:
        self.pid = pid
        self.say = say
        self.given: list[bytes] = []
        self.code: int | None = None
        self.cpu_seconds = 0.0
        self._ended = asyncio.Event()

    def own_cpu_seconds(self) -> float:
        return self.cpu_seconds

    def send(self, message: Picture | Sound) -> None:
        if message.data == b"huge":
            raise FrameTooLarge
        self.given.append(message.data)

    def kill(self) -> None:
        self.end(-signal.SIGKILL)

    def end(self, code: int) -> None:
        if self.code is None:
            self.code = code
            self._ended.set()

    async def exited(self) -> str:
        await self._ended.wait()
        return f"code {self.code}"


class Pool:
    """The inspectors with every process they have started."""

    def __init__(self, limits: InspectionLimits = ROOM) -> None:
        self.processes: list[FakeProcess] = []
        self.failing: OSError | None = None
        self.inspectors = Inspectors(self._spawn, limits)

    async def _spawn(self, say: Callable[[FromInspector], None]) -> FakeProcess:
        if self.failing is not None:
            raise self.failing
        self.processes.append(FakeProcess(len(self.processes), say))
        return self.processes[-1]

    def send(self, data: bytes, client: str = "a") -> asyncio.Task[bytes]:
        return asyncio.create_task(self.inspectors.inspect(Picture(data, 100), client))

    async def ready(self, count: int = 1, say_to: int | None = None) -> None:
        """Until so many have been started; all of them, or the last ``say_to``, say that they are ready."""
        await until(lambda: len(self.processes) >= count)
        for process in self.processes[-(say_to or count) :]:
            process.say(InspectorReady())

    async def given(self, count: int) -> None:
        """Until the first process has been given so many."""
        await until(lambda: len(self.processes[0].given) >= count)

    def running(self) -> list[FakeProcess]:
        return [process for process in self.processes if process.code is None]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - the condition is of things that have no event
            await asyncio.sleep(0)


async def test_no_process_before_the_first_piece_and_two_at_most() -> None:
    pool = Pool()
    await asyncio.sleep(0)
    assert pool.processes == []
    tasks = [pool.send(b"%d" % number) for number in range(5)]
    await pool.ready(2)
    assert [process.given for process in pool.processes] == [[b"0"], [b"1"]]
    for process in pool.processes:
        process.say(Clean(b"clean"))
    assert [process.given for process in pool.processes] == [[b"0", b"2"], [b"1", b"3"]]
    pool.processes[0].say(Clean(b"clean"))
    pool.processes[0].say(Clean(b"clean"))
    pool.processes[1].say(Clean(b"clean"))
    assert await asyncio.gather(*tasks) == [b"clean"] * 5
    assert len(pool.processes) == 2


async def test_one_inspector_is_enough_for_one_piece_at_a_time() -> None:
    pool = Pool()
    for number in range(3):
        task = pool.send(b"x")
        if not number:
            await pool.ready()
        await pool.given(number + 1)
        pool.processes[0].say(Clean(b"y"))
        assert await task == b"y"
    assert len(pool.processes) == 1


async def test_what_is_refused_keeps_its_words() -> None:
    pool = Pool()
    task = pool.send(b"x")
    await pool.ready()
    pool.processes[0].say(PieceRefused("is a broken picture"))
    with pytest.raises(Unreadable, match="is a broken picture"):
        await task
    assert pool.running() == pool.processes, "a broken picture is no offence"


async def test_a_process_that_took_too_much_memory_is_replaced() -> None:
    pool = Pool()
    first = pool.send(b"bomb")
    await pool.ready()
    second = pool.send(b"x")
    pool.processes[0].say(PieceRefused("takes too much memory to open", limit=True))
    with pytest.raises(Unreadable, match="too much memory"):
        await first
    assert pool.processes[0].code == -signal.SIGKILL
    assert pool.processes[0].given == [b"bomb"]
    await until(lambda: len(pool.processes) == 2)
    pool.processes[1].say(InspectorReady())
    pool.processes[1].say(Clean(b"y"))
    assert await second == b"y"


async def test_a_process_is_replaced_after_so_many_pieces() -> None:
    pool = Pool(InspectionLimits(pieces=2, wall=NEVER, idle=NEVER, start=NEVER))
    for number in range(5):
        task = pool.send(b"x")
        if number % 2 == 0:
            await pool.ready(number // 2 + 1, say_to=1)
        await until(lambda: pool.processes[-1].given)
        await asyncio.sleep(0)
        pool.processes[-1].say(Clean(b"y"))
        assert await task == b"y"
    assert [len(process.given) for process in pool.processes] == [2, 2, 1]


async def test_inspector_of_a_client_that_left_is_replaced() -> None:
    pool = Pool(InspectionLimits(most=1, wall=NEVER, idle=NEVER, start=NEVER))
    gone = pool.send(b"bomb")
    await pool.ready()
    honest = pool.send(b"x", "b")
    await until(lambda: pool.processes[0].given)
    gone.cancel()
    await until(lambda: len(pool.processes) == 2)
    assert pool.processes[0].code == -signal.SIGKILL
    await pool.ready()
    pool.processes[1].say(Clean(b"y"))
    assert await honest == b"y"
    assert pool.processes[1].given == [b"x"]


async def test_a_piece_that_waits_for_nobody_is_never_looked_at() -> None:
    pool = Pool(InspectionLimits(most=1, wall=NEVER, idle=NEVER, start=NEVER))
    first, gone, last = pool.send(b"0"), pool.send(b"1"), pool.send(b"2")
    await pool.ready()
    gone.cancel()
    await asyncio.wait([gone])
    for _ in range(2):
        pool.processes[0].say(Clean(b"y"))
    assert (await first, await last) == (b"y", b"y")
    assert pool.processes[0].given == [b"0", b"2"]


async def test_clients_take_turns() -> None:
    pool = Pool(InspectionLimits(most=1, wall=NEVER, idle=NEVER, start=NEVER))
    many = [pool.send(b"many") for _ in range(10)]
    one = [pool.send(b"one", "b")]
    await pool.ready()
    while len(pool.processes[0].given) < 11:
        pool.processes[0].say(Clean(b"y"))
    pool.processes[0].say(Clean(b"y"))
    await asyncio.gather(*many, *one)
    assert pool.processes[0].given[:3] == [b"many", b"one", b"many"]


async def test_number_of_waiting_pieces_is_bounded() -> None:
    pool = Pool(InspectionLimits(most=1, waiting=3, wall=NEVER, idle=NEVER, start=NEVER))
    tasks = [pool.send(b"x") for _ in range(3)]
    await until(lambda: pool.processes)
    with pytest.raises(TooBusy):
        await pool.inspectors.inspect(Picture(b"x", 1), "b")
    tasks.pop().cancel()
    await asyncio.sleep(0)
    tasks.append(pool.send(b"x"))
    await asyncio.sleep(0)
    await pool.ready()
    for _ in tasks:
        pool.processes[0].say(Clean(b"y"))
    assert await asyncio.gather(*tasks) == [b"y"] * 3


async def test_an_idle_process_is_ended_and_started_again_when_needed() -> None:
    pool = Pool(InspectionLimits(wall=NEVER, idle=0.0, start=NEVER))
    task = pool.send(b"x")
    await pool.ready()
    pool.processes[0].say(Clean(b"y"))
    assert await task == b"y"
    await until(lambda: not pool.inspectors.pids())
    assert pool.processes[0].code == -signal.SIGKILL
    again = pool.send(b"x")
    await pool.ready(2)
    pool.processes[1].say(Clean(b"z"))
    assert await again == b"z"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (-signal.SIGXCPU, "takes too long to open"),
        (-signal.SIGSEGV, "broke the program that opens it"),
        (-signal.SIGABRT, "broke the program that opens it"),
        (1, "broke the program that opens it"),
    ],
)
async def test_a_piece_that_ends_its_process_is_refused(code: int, why: str) -> None:
    pool = Pool()
    task = pool.send(b"bomb")
    await pool.ready()
    pool.processes[0].end(code)
    with pytest.raises(Unreadable, match=why):
        await task
    honest = pool.send(b"x")
    await until(lambda: len(pool.processes) == 2)
    pool.processes[1].say(InspectorReady())
    pool.processes[1].say(Clean(b"y"))
    assert await honest == b"y"


async def test_a_process_that_the_machine_killed_says_nothing_of_its_piece() -> None:
    pool = Pool()
    task = pool.send(b"x")
    await pool.ready()
    pool.processes[0].end(-signal.SIGKILL)
    with pytest.raises(TooBusy):
        await task


@pytest.mark.parametrize(("used", "error"), [(3.1, Unreadable), (2.9, TooBusy), (0.0, TooBusy)])
async def test_slow_piece_is_refused_only_if_it_had_the_processor(used: float, error: type[Exception]) -> None:
    pool = Pool(InspectionLimits(wall=0.0, idle=NEVER, start=NEVER))
    task = pool.send(b"x")
    await until(lambda: pool.processes)
    pool.processes[0].cpu_seconds = 7.0
    pool.processes[0].say(InspectorReady())
    pool.processes[0].cpu_seconds += used
    with pytest.raises(error):
        await task
    assert pool.processes[0].code == -signal.SIGKILL


async def test_piece_on_a_busy_machine_has_more_time() -> None:
    pool = Pool(InspectionLimits(wall=0.0, idle=NEVER, start=NEVER))
    task = pool.send(b"x")
    await until(lambda: pool.processes)
    pool.processes[0].say(InspectorReady())
    pool.processes[0].cpu_seconds += 0.5
    (one,) = pool.inspectors._all
    await until(lambda: one.longer)
    pool.processes[0].say(Clean(b"y"))
    assert await task == b"y"


async def test_progress_gives_more_time() -> None:
    pool = Pool(InspectionLimits(wall=NEVER, idle=NEVER, start=NEVER))
    task = pool.send(b"x")
    await pool.ready()
    (one,) = pool.inspectors._all
    before = one.timer
    pool.processes[0].say(Progress())
    assert before is not None
    assert before.cancelled()
    assert one.timer is not None
    assert one.timer.when() > before.when()
    pool.processes[0].say(Clean(b"y"))
    assert await task == b"y"


async def test_where_no_process_can_be_started_nobody_waits() -> None:
    pool = Pool()
    pool.failing = OSError(24, "Too many open files")
    for task in [pool.send(b"x") for _ in range(3)]:
        with pytest.raises(TooBusy):
            await task
    pool.failing = None
    task = pool.send(b"x")
    await pool.ready()
    pool.processes[0].say(Clean(b"y"))
    assert await task == b"y"


async def test_a_process_that_never_gets_ready_is_given_up() -> None:
    pool = Pool(InspectionLimits(wall=NEVER, idle=NEVER, start=0.0))
    with pytest.raises(TooBusy):
        await pool.inspectors.inspect(Picture(b"x", 1), "a")
    assert pool.running() == []


async def test_a_piece_that_fits_no_frame_is_refused() -> None:
    pool = Pool()
    task = pool.send(b"huge")
    await pool.ready()
    with pytest.raises(Unreadable, match="is too large"):
        await task
    assert pool.running()


async def test_at_the_end_all_are_ended_and_who_waits_is_told() -> None:
    pool = Pool()
    tasks = [pool.send(b"x") for _ in range(4)]
    await pool.ready(2)
    await pool.inspectors.close()
    assert pool.running() == []
    for task in tasks:
        with pytest.raises(TooBusy):
            await task
    with pytest.raises(TooBusy):
        await pool.inspectors.inspect(Picture(b"x", 1), "a")


def test_limits_of_inspectors_are_those_of_the_docs() -> None:
    assert (inspectors.MAX_PROCESSES, inspectors.MAX_PIECES, inspectors.WALL_SECONDS, inspectors.IDLE_SECONDS) == (
        2,
        200,
        10.0,
        60.0,
    )


async def test_refused_piece_is_freed_without_the_garbage_collector() -> None:
    """It may have many MiB, and the collector may come minutes later."""
    pool = Pool()
    gc.collect()
    gc.disable()
    try:
        task = pool.send(b"x")
        await pool.ready()
        await pool.given(1)
        pool.processes[0].say(PieceRefused("no"))
        with pytest.raises(Unreadable):
            await task
        del task
        assert not any(isinstance(each, inspectors._Job) for each in gc.get_objects())
    finally:
        gc.enable()

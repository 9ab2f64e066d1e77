"""What is written of an answer, and in how many pieces, by uvicorn itself."""

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from cohabit.api.http.joined import Joined

OK = b"HTTP/1.1 200 OK\r\n"


class Pipe(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def cycle(pipe: Pipe, method: str = "POST", **how: Any) -> RequestResponseCycle:
    scope: Any = {"type": "http", "method": method}
    made = RequestResponseCycle(
        scope=scope,
        transport=pipe,
        flow=FlowControl(pipe),
        logger=logging.getLogger(),
        access_logger=logging.getLogger(),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        on_response=lambda: None,
        **{"expect_100_continue": False, "keep_alive": True, **how},
    )
    made.transport = Joined(made)
    return made


async def answer(made: RequestResponseCycle, *pieces: bytes, length: int | None = None) -> None:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    await made.send({"type": "http.response.start", "status": 200, "headers": headers})
    for number, piece in enumerate(pieces, 1):
        await made.send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})


@pytest.mark.parametrize(
    ("method", "pieces", "length", "written"),
    [
        ("POST", [b"{}"], 2, [OK + b"content-length: 2\r\n\r\n{}"]),
        ("POST", [b"{", b"}"], 2, [OK + b"content-length: 2\r\n\r\n{", b"}"]),
        ("POST", [b"", b"{}"], 2, [OK + b"content-length: 2\r\n\r\n", b"{}"]),
        ("POST", [b""], 0, [OK + b"content-length: 0\r\n\r\n", b""]),
        ("HEAD", [b"{}"], 2, [OK + b"content-length: 2\r\n\r\n"]),
        ("POST", [], None, [OK + b"transfer-encoding: chunked\r\n\r\n"]),
        ("POST", [b"{", b""], None, [OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n{\r\n", b"0\r\n\r\n"]),
    ],
    ids=["whole", "in two", "nothing first", "empty", "only the head", "a stream not begun", "a stream"],
)
async def test_a_head_waits_only_for_what_is_sure_to_come(
    method: str, pieces: list[bytes], length: int | None, written: list[bytes]
) -> None:
    pipe = Pipe()
    await answer(cycle(pipe, method), *pieces, length=length)
    assert pipe.written == written


async def test_a_client_that_waits_to_be_asked_is_asked_at_once() -> None:
    pipe = Pipe()
    made = cycle(pipe, expect_100_continue=True)
    made.message_event.set()
    await made.receive()
    assert pipe.written == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    await answer(made, b"{}", length=2)
    assert len(pipe.written) == 2


async def test_a_connection_that_is_not_kept_closes_behind_the_answer() -> None:
    pipe = Pipe()
    await answer(cycle(pipe, keep_alive=False), b"{}", length=2)
    assert pipe.closed
    assert len(pipe.written) == 1


async def test_an_answer_of_which_there_is_only_a_head_is_not_begun() -> None:
    pipe = Pipe()
    made = cycle(pipe)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        assert not made.transport.is_closing()

    await made.run_asgi(app)
    assert pipe.closed
    assert pipe.written == []

"""What signals ask of a running server, and the promise that it then ends."""

import asyncio
import os
import signal
import threading

import structlog

from cohabit.cli.output import Code
from cohabit.observability.logs import drain

LAST_WORDS = 0.2  # seconds for the log

log = structlog.get_logger()

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Signals:
    """SIGINT (Ctrl-C), SIGTERM and SIGHUP: the first lets the server drain, the second ends it at once."""

    def __init__(self, drain: float) -> None:
        """``drain`` in seconds, which is what the log says that it takes at most."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._drain = drain

    def listen(self) -> None:
        """From now on, until the event loop is closed. A SIGHUP that nohup lets be ignored goes on being ignored."""
        loop = asyncio.get_running_loop()
        for number in _NAMES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.first.is_set():
            log.warning("shutting down at once", why=_NAMES[number])
            self.second.set()
        else:
            hint = "press Ctrl-C again" if number is signal.SIGINT else "send the signal again"
            log.warning(
                "shutting down: what was accepted may end first", at_most_seconds=self._drain, to_end_at_once=hint
            )
            self.first.set()


def exit_within(seconds: float, code: Code) -> None:
    """End this process with this code if it has not ended by then, whatever its threads and its event loop do."""

    def end() -> None:
        drain(LAST_WORDS)
        os._exit(int(code))

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()

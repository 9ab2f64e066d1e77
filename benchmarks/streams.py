"""From a chunk in the worker to its client: one stream at a time, each chunk with the time it was made at.

The fake engine stamps its chunks with the machine's monotonic clock, which the client compares with its own. Streams
of 20 chunks, 10 ms apart, one after the other on one connection; rounds, and the median of each figure.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _load import percentile
from _machine import Cores, keep
from start import listening

WANTED = {"first_chunk_p95_ms": "at most 5"}
CHUNKS, APART = 20, 0.01  # seconds
CONFIG = """
device: {kind: cpu, budget: 1GiB}
models:
  fake: {engine: fake}
"""
BODY = json.dumps(
    {
        "model": "fake",
        "stream": True,
        "messages": [{"role": "user", "content": "Count."}],
        "fake": {"stamp": True, "tokens": CHUNKS, "token_seconds": APART},
    }
).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
REQUEST = b"%bcontent-length: %d\r\n\r\n%b" % (HEAD, len(BODY), BODY)
CONTENT = b'"content":"'

Figures = dict[str, float]


def delays(connection: socket.socket) -> list[float]:
    """Of one stream's chunks, in milliseconds. Raises RuntimeError if it is not whole."""
    connection.sendall(REQUEST)
    found: list[float] = []
    rest = b""
    while not rest.endswith(b"\r\n0\r\n\r\n"):  # the end of the answer, so that the next one starts clean
        data = connection.recv(1 << 16)
        now = time.monotonic()
        if not data:
            raise RuntimeError(f"the stream broke off: {rest!r}")
        *events, rest = (rest + data).split(b"\n\n")
        for event in events:
            _, is_text, text = event.partition(CONTENT)
            if is_text:
                found.append((now - float(text.partition(b'"')[0])) * 1000)
    if len(found) != CHUNKS:
        raise RuntimeError(f"{len(found)} chunks instead of {CHUNKS}")
    return found


def once(connection: socket.socket, streams: int) -> Figures:
    """One round."""
    found = [delays(connection) for _ in range(streams)]
    first = [one[0] for one in found]
    later = [delay for one in found for delay in one[1:]]
    return {
        "first_chunk_p50_ms": statistics.median(first),
        "first_chunk_p95_ms": percentile(first, 95),
        "first_chunk_max_ms": max(first),
        "later_chunks_p50_ms": statistics.median(later),
        "later_chunks_p95_ms": percentile(later, 95),
        "later_chunks_p99_ms": percentile(later, 99),
    }


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=100, help="in each round")
    parser.add_argument("--out", type=Path, help="write the result here, for a trial that is not to be kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "fake.yaml"
        config.write_text(CONFIG)
        server = subprocess.Popen(
            [str(Path(sys.executable).parent / "cohabit"), "serve", str(config), "--port", "0"],
            env=os.environ | {"COHABIT_HOME": folder},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            host, port = listening(server).removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as connection:
                once(connection, 10)  # brings the model in
                cores = Cores(server.pid)
                rounds = [once(connection, arguments.streams) for _ in range(arguments.rounds)]
                shares = cores.shares()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
    seen = {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}
    figures = {
        "rounds": arguments.rounds,
        "streams": arguments.streams,
        "wanted": WANTED,
        "seen": seen,
        "first_chunk_p95_ms_of_each_round": [round(one["first_chunk_p95_ms"], 2) for one in rounds],
        "machine_shares_percent": shares,
    }
    keep("streams", figures, arguments.out)


if __name__ == "__main__":
    main()

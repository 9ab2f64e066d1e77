"""What cohabit adds to a request, beside FastAPI alone, LitServe and Ray Serve, all of them doing nothing.

Needs Debian's ``hey`` and ``wrk``; the peers go into a virtual environment under ``--peers``. In every round each
server is alone on the machine, is asked at a fixed rate and then as fast as it can; cohabit streams besides.
"""

import argparse
import contextlib
import csv
import json
import os
import re
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from _machine import keep

HERE = Path(__file__).parent
PEERS = ("litserve==0.2.19", "ray[serve]==2.60.0")
WANTED = {
    "added_p50_ms": "at most 1.5",
    "added_p99_ms": "at most 10",
    "times_bare": "at least 0.35",
    "times_litserve": "at least 2",
    "chunks_per_s": "at least 20000",
}

RATE = ("-c", "16", "-q", "12.5")  # hey's: 16 clients, 12.5 requests a second each
STREAMS, CHUNKS = 100, 200
CONFIG = f"""
device: {{kind: cpu, budget: 1GiB}}
models:
  fake: {{engine: fake, concurrency: {STREAMS}, options: {{tokens: {CHUNKS}}}}}
"""
PATH = "/v1/embeddings"
BODY = '{"model": "fake", "input": "What is the capital of France?"}'
CHAT = json.dumps({"model": "fake", "stream": True, "messages": [{"role": "user", "content": "Count."}]})

Figures = dict[str, float]


# servers


def environment(folder: Path) -> Path:
    """The interpreter of a virtual environment that has the peers; made if it is not there."""
    python = folder / "bin" / "python"
    done = folder / "peers.txt"
    if not done.exists() or done.read_text().split() != list(PEERS):
        print(f"installing {', '.join(PEERS)} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS], check=True)
        done.write_text("\n".join(PEERS))
    return python


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(command: Sequence[str | Path], home: Path) -> Iterator[int]:
    """A server on loopback from its first answer on, alone; its port goes in for PORT. No process of it is left."""
    port = free_port()
    log = home / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(port) if word == "PORT" else word for word in command],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "HOME": str(home), "COHABIT_HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"},
        )
    family = [psutil.Process(process.pid)]
    try:
        began = time.monotonic()
        while answer(port) is None:
            if process.poll() is not None or time.monotonic() - began > 120:
                raise RuntimeError(f"{command[1]} does not answer:\n{log.read_text()}")
            time.sleep(0.1)
        family += family[0].children(recursive=True)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
        for left in psutil.wait_procs(family, timeout=5)[1]:
            left.kill()


def answer(port: int) -> bytes | None:
    """What the server says to the request that all are measured with; None before it listens."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{PATH}", BODY.encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as found:  # noqa: S310 - our own server
            body: bytes = found.read()
    except OSError:
        return None
    return body


# load


def fixed_rate(port: int, seconds: float) -> Figures:
    """200 requests a second; milliseconds."""
    url = f"http://127.0.0.1:{port}{PATH}"
    command = [
        "hey",
        *RATE,
        "-z",
        f"{seconds}s",
        "-o",
        "csv",
        "-m",
        "POST",
        "-T",
        "application/json",
        "-d",
        BODY,
        url,
    ]
    rows = list(
        csv.DictReader(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())
    )
    wrong = [row["status-code"] for row in rows if row["status-code"] != "200"]
    if wrong or len(rows) < 150 * seconds:
        raise RuntimeError(f"{len(rows)} answers in {seconds} s, {len(wrong)} of them errors")
    percentiles = statistics.quantiles([float(row["response-time"]) * 1000 for row in rows], n=100)
    return {"p50_ms": percentiles[49], "p99_ms": percentiles[98]}


def saturated(port: int, seconds: float, home: Path) -> float:
    """Requests a second from 16 connections that never pause."""
    script = home / "post.lua"
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{BODY}'\nwrk.headers['content-type'] = 'application/json'\n")
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}{PATH}"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(said)
    return float(found[1])


def streamed(port: int) -> float:
    """Chunks a second of streams that all begin at once, read whole with as little work as can be."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(CHAT)}"
    )
    asked = f"{head}\r\ncontent-type: application/json\r\n\r\n{CHAT}".encode()
    answers: dict[socket.socket, bytearray] = {
        socket.create_connection(("127.0.0.1", port)): bytearray() for _ in range(STREAMS)
    }
    with selectors.DefaultSelector() as waiting:
        began = time.monotonic()
        for client in answers:
            client.sendall(asked)
            waiting.register(client, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                client = key.fileobj  # type: ignore[assignment]  # we registered sockets
                data = client.recv(1 << 16)
                answers[client] += data
                if not data:
                    waiting.unregister(client)
                    client.close()
        seconds = time.monotonic() - began
    for whole in answers.values():
        if whole.count(b"data: ") != CHUNKS + 2:  # the end's reason and [DONE] are not chunks of text
            raise RuntimeError(f"a stream of {whole.count(b'data: ')} events: {bytes(whole[-300:])!r}")
    return STREAMS * CHUNKS / seconds


# the whole


def measure(name: str, command: Sequence[str | Path], said: bytes, seconds: int) -> Figures:
    """One server once."""
    with tempfile.TemporaryDirectory() as folder, serving(command, Path(folder)) as port:
        if len(answer(port) or b"") != len(said):
            raise RuntimeError(f"{name} does not say as much as cohabit")
        saturated(port, 1, Path(folder))  # warm
        figures = fixed_rate(port, seconds)
        figures["saturated_per_s"] = saturated(port, seconds, Path(folder))
        if name == "cohabit":
            streamed(port)  # warm
            figures["chunks_per_s"] = statistics.median(streamed(port) for _ in range(3))
    print(name, {key: round(value, 2) for key, value in figures.items()}, file=sys.stderr)
    return figures


def compared(one: dict[str, Figures]) -> Figures:
    """One round: differences and ratios are taken within it, since a machine has its moods."""
    ours, bare = one["cohabit"], one["bare"]
    return {
        "added_p50_ms": ours["p50_ms"] - bare["p50_ms"],
        "added_p99_ms": ours["p99_ms"] - bare["p99_ms"],
        "times_bare": ours["saturated_per_s"] / bare["saturated_per_s"],
        "times_litserve": ours["saturated_per_s"] / one["litserve"]["saturated_per_s"],
        "times_ray_serve": ours["saturated_per_s"] / one["ray_serve"]["saturated_per_s"],
        "chunks_per_s": ours["chunks_per_s"],
    }


def medians(rounds: Sequence[Figures]) -> Figures:
    """Of each figure."""
    return {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--venv", type=Path, default=HERE.parent / "build" / "overhead-venv", help="the peers'")
    arguments = parser.parse_args()
    missing = [tool for tool in ("hey", "wrk") if shutil.which(tool) is None]
    if missing:
        raise SystemExit(f"missing: {' '.join(missing)}; apt-get install {' '.join(missing)}")
    peers = environment(arguments.venv)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "fake.yaml"
        config.write_text(CONFIG)
        cohabit: list[str | Path] = [Path(sys.executable).parent / "cohabit", "serve", config, "--port", "PORT"]
        with serving(cohabit, Path(folder)) as port:
            said = answer(port) or b""
        commands: dict[str, list[str | Path]] = {
            "bare": [sys.executable, HERE / "peers" / "bare.py", "PORT", said.decode()],
            "cohabit": cohabit,
            "litserve": [peers, HERE / "peers" / "lit.py", "PORT", said.decode()],
            "ray_serve": [peers, HERE / "peers" / "rayserve.py", "PORT", said.decode()],
        }
        rounds = [
            {name: measure(name, command, said, arguments.seconds) for name, command in commands.items()}
            for _ in range(arguments.rounds)
        ]
    keep(
        "overhead",
        {
            "rounds": arguments.rounds,
            "wanted": WANTED,
            "seen": medians([compared(one) for one in rounds]),
            "servers": {name: medians([one[name] for one in rounds]) for name in commands},
        },
    )


if __name__ == "__main__":
    main()

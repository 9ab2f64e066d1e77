"""From the start of the process to listening, and what the control plane weighs.

With ``--clean``: from ``make serve`` in a fresh clone with nothing installed to the first answer. That needs the
package registry.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from _machine import keep

ROOT = Path(__file__).parent.parent
CHAT = {"model": "llm", "messages": [{"role": "user", "content": "Which city is the capital of France?"}]}


def listening(process: subprocess.Popen[str]) -> str:
    """The address it prints. Raises RuntimeError if it ends before."""
    assert process.stdout is not None
    for line in process.stdout:
        found = re.match(r"listening on (\S+)", line)
        if found:
            return found[1]
    raise RuntimeError(f"it ended with {process.wait()}")


def ask(url: str) -> str:
    """One chat; its answer."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        f"{url}/v1/chat/completions", json.dumps(CHAT).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
        text: str = json.load(answer)["choices"][0]["message"]["content"]
    return text


def once() -> dict[str, float]:
    """One start of an installed server."""
    command = [str(Path(sys.executable).parent / "cohabit"), "serve", "--port", "0"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = listening(process)
        ready = time.monotonic()
        ask(url)
        answered = time.monotonic()
        rss = psutil.Process(process.pid).memory_info().rss
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    return {"listening": ready - began, "first_answer": answered - began, "rss_mib": rss / 2**20}


def clean() -> dict[str, float]:
    """``make serve`` in a fresh clone, an empty home, no package cache."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "-q", str(ROOT), f"{folder}/cohabit"], check=True)
        environment = {**os.environ, "COHABIT_HOME": f"{folder}/home", "PIP_NO_CACHE_DIR": "1"}
        environment.pop("VIRTUAL_ENV", None)
        began = time.monotonic()
        process = subprocess.Popen(
            ["make", "serve", "ARGS=--port 0"],
            cwd=f"{folder}/cohabit",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            url = listening(process)
            ready = time.monotonic()
            ask(url)
            answered = time.monotonic()
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=30)
    return {"listening": ready - began, "first_answer": answered - began}


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", action="store_true", help="from a fresh clone with nothing installed")
    if parser.parse_args().clean:
        keep("start_clean", {key: round(value, 1) for key, value in clean().items()})
        return
    once()  # fetches the weights if they are not here, and warms the disk's cache
    runs = [once() for _ in range(5)]
    keep(
        "start",
        {f"{key}_median_of_5": round(statistics.median(run[key] for run in runs), 3) for key in runs[0]},
    )


if __name__ == "__main__":
    main()

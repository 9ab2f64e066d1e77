"""What the embedded models take: as the server measures it, after short and after the largest requests."""

import json
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from _machine import keep
from start import listening


def post(url: str, path: str, body: dict[str, Any]) -> None:
    """One request, its answer thrown away."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        url + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - our own server
        answer.read()


def chat(url: str, words: int) -> None:
    """A prompt of about so many tokens."""
    post(
        url,
        "/v1/chat/completions",
        {"model": "llm", "max_tokens": 1, "messages": [{"role": "user", "content": "w " * words}]},
    )


def main() -> None:
    """Measure and keep."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "cache").symlink_to(user_cache_path("cohabit"), target_is_directory=True)
        command = [str(Path(sys.executable).parent / "cohabit"), "serve", "--port", "0"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"COHABIT_HOME": home, "PATH": "/usr/bin:/bin"},
        )
        try:
            url = listening(process)
            chat(url, 5)
            post(url, "/v1/embeddings", {"model": "embeddings", "input": ["a short text"]})
            full = [threading.Thread(target=chat, args=(url, 1900)) for _ in range(4)]
            for thread in full:
                thread.start()
            for thread in full:
                thread.join()
            post(url, "/v1/embeddings", {"model": "embeddings", "input": ["word " * 254] * 64})
            measured = json.loads((Path(home) / "state" / "footprints.json").read_text())["profiles"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    figures = {
        profile["model"]: {
            "resident_mib": round(profile["resident"] / 2**20),
            "load_mib": round(profile["load"] / 2**20),
            "working_mib": round(profile["working"] / 2**20) or "not above what is declared",
            "load_seconds": profile["load_seconds"],
        }
        for profile in measured.values()
    }
    keep("footprints", figures)


if __name__ == "__main__":
    main()

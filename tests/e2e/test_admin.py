"""An owner at work on a running server: over HTTP, from the shell, watching what is decided."""

import json
import threading
from pathlib import Path

import pytest

from harness import Running, cohabit, serving

pytestmark = pytest.mark.process

CONFIG = """
device: {kind: cpu, budget: 130MiB}
models:
  a: {engine: fake, options: {idle: 30000000, sleep_resident: 1000000}, aliases: [alias]}
  b: {engine: fake, options: {idle: 30000000}}
  broken: {engine: fake, options: {fail: load}}
"""


def told(server: Running, *words: str) -> tuple[int, str]:
    """A command's exit code, and what it said."""
    done = cohabit(*words, "--url", server.url, seconds=60)
    return done.returncode, (done.stdout + done.stderr).strip()


def watch(server: Running, until: str) -> tuple[threading.Thread, list[tuple[str, dict[str, object]]]]:
    """Read the feed until something is in it; returns once it is being read."""
    found: list[tuple[str, dict[str, object]]] = []
    listening = threading.Event()

    def read() -> None:
        with server.http.stream("GET", "/admin/events") as answer:
            for block in answer.iter_text():
                listening.set()
                for part in block.split("\n\n"):
                    if part.startswith("event: "):
                        kind, data = part.removeprefix("event: ").split("\ndata: ")
                        found.append((kind, json.loads(data)))
                if until in block:
                    return

    thread = threading.Thread(target=read)
    thread.start()
    assert listening.wait(10)
    return thread, found


def test_admin_commands_work_from_the_shell(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as server:
        reader, found = watch(server, '"pinned":false')
        assert told(server, "load", "alias") == (0, "a: done, it is ready")
        assert told(server, "sleep", "a") == (0, "a: done, it is sleeping")
        assert told(server, "load", "a") == (0, "a: done, it is ready")
        assert told(server, "pin", "a")[0] == 0
        assert told(server, "unload", "a") == (1, "a is pinned; unpin it first")
        assert told(server, "unpin", "a")[0] == 0
        code, said = told(server, "load", "broken")
        assert code == 1
        assert "told to fail at load" in said
        assert told(server, "load", "nobody")[0] == 1
        assert told(server, "unload", "a") == (0, "a: done, it is stopped")
        reader.join(10)
        states = [fields.get("state") for kind, fields in found if kind == "model" and fields["model"] == "a"]
        assert states == ["starting", "ready", "entering_sleep", "sleeping", "waking", "ready", None, None]
        assert not server.workers(), "all have left"
    assert told(server, "load", "a")[0] == 1, "nobody is there"


def test_load_evicts_idle_models_but_not_pinned_ones(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG.replace("130MiB", "80MiB")) as server:
        assert server.http.post("/admin/models/a/load").json()["state"] == "ready"
        assert server.http.post("/admin/models/b/load").json()["state"] == "ready"
        assert server.model("a")["state"] == "stopped"
        refused = server.http.post("/admin/models/b/pin")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "pin_leaves_no_room")


def test_busy_model_finishes_before_it_is_evicted(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as server:
        server.chat(model="a").raise_for_status()
        answers: list[int] = []
        slow = {"run_seconds": 1.0}
        asking = threading.Thread(target=lambda: answers.append(server.chat(model="a", fake=slow).status_code))
        asking.start()
        server.until(lambda: server.model("a")["in_flight"])
        began = server.http.post("/admin/models/a/unload?wait=0")
        assert (began.status_code, began.json()["outcome"]) == (202, "under_way")
        assert server.model("a")["draining"]
        assert server.http.post("/admin/models/a/unload").json() == {
            "outcome": "done",
            "model": "a",
            "state": "stopped",
            "pinned": False,
        }
        asking.join(10)
        assert answers == [200]


def test_last_output_of_a_dead_worker_is_shown(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as server:
        assert server.http.get("/admin/models/broken/log").text == ""
        server.http.post("/admin/models/broken/load")
        refused = server.http.post("/admin/models/broken/load")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_failed")
        assert server.http.get("/admin/models/broken/log").status_code == 200

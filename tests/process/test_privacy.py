"""What docs/privacy.md promises, on real servers and models: a word that clients send is looked for everywhere."""

import json
import os
import re
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from cohabit.config.load import parse_config
from cohabit.config.model import BatchesConfig
from cohabit.observability.journal import KEPT as KEPT_JOURNALS
from cohabit.runtime.workers.process import SILENT
from cohabit.schemas.batches import ENDED
from harness import Running, home, preset, serving, wait_until
from samples import asking, saved, written

pytestmark = [pytest.mark.process, pytest.mark.model]

WORD = "kanarienvogel"
CHAT = [{"role": "user", "content": f"Say {WORD}."}]
OTHER = "zaunkoenig"  # of a client whose data stay
DOCS = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text()
TOLD = re.findall(r"^\| `(\S+)` \|", DOCS, re.MULTILINE)  # which files there are


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that a server may write is below it: its state, its home, its temporary folder."""
    home(tmp_path)  # first: the cache of weights is the real home's
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    for name in [*os.environ]:
        if name.startswith("XDG_") or name == "CI" or name in SILENT:  # in CI libraries hold their tongue anyway
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


def config(*names: str) -> str:
    """These models of the preset, and as much in the log as can be."""
    return json.dumps({**json.loads(preset(*names)), "server": {"log_level": "debug", "journal": "16MiB"}})


def files(folder: Path) -> Iterator[Path]:
    """All but the weights."""
    for each in folder.iterdir():
        if each.name != "cache":
            yield from (path for path in (each, *each.rglob("*")) if path.is_file())


def found(folder: Path) -> set[str]:
    """Names of the files that hold the word."""
    return {path.name for path in files(folder) if WORD.encode() in path.read_bytes()}


def strangers(server: Running) -> set[str]:
    """Hosts beyond this machine that it or its workers have a connection to."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    hosts = {each.raddr.ip for one in processes for each in one.net_connections("inet") if each.raddr}
    return {host for host in hosts if not host.startswith("127.")}


def open_files(server: Running, folder: Path) -> list[str]:
    """What it has open there, that which has no name any more too: temporary files lose theirs at once."""
    descriptors = [*Path(f"/proc/{server.pid}/fd").iterdir()]
    return [target for each in descriptors if (target := os.readlink(each)).startswith(str(folder))]


def ask_everything(server: Running) -> None:
    """One request of each kind, with the word in all that a client chooses."""
    http = server.http
    messages = [{"role": "user", "content": f"Say {WORD}."}]
    answers = [
        server.chat(f"Say {WORD}.", max_tokens=8, user=WORD, metadata={"of": WORD}),
        http.post("/v1/completions", json={"model": "llm", "prompt": WORD, "max_tokens": 8}),
        http.post("/v1/responses", json={"model": "llm", "input": WORD, "max_output_tokens": 8, "store": True}),
        server.embed(WORD, f"{WORD} " * 40),
        http.post("/v1/chat/completions", json={"model": "vision", "messages": asking(saved(written(WORD)), WORD)}),
        http.post("/batch", json=[{"type": "chat", "data": {"prompt": WORD, "max_tokens": 4}}]),
        spoken := http.post("/v1/audio/speech", json={"model": "tts", "input": f"The {WORD} sings."}),
        http.post(
            "/v1/audio/transcriptions",
            data={"model": "stt", "prompt": WORD},
            files={"file": (f"{WORD}.mp3", spoken.content)},
        ),
    ]
    with http.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "llm", "messages": messages, "stream": True, "max_tokens": 8},
        headers={"user-agent": WORD, "referer": WORD},
    ) as stream:
        answers.append(stream)
        assert b"[DONE]" in stream.read()
    assert [answer.status_code for answer in answers] == [200] * len(answers)


def ask_wrongly(server: Running) -> None:
    """Requests that are refused, which is when servers like to say what they were sent."""
    http, json_type = server.http, {"content-type": "application/json"}
    answers = [
        server.chat("x", model=WORD),
        server.chat("x", temperature=WORD),
        server.chat("x", response_format={"type": "json_schema", "json_schema": {"name": WORD, "schema": WORD}}),
        http.post("/v1/chat/completions", content=f'{{"{WORD}": {WORD}', headers=json_type),
        http.post("/v1/embeddings", json={"model": "embeddings", "input": [f"{WORD} " * 100_000]}),
        http.get(f"/{WORD}?{WORD}={WORD}", headers={"authorization": f"Bearer {WORD}", "x-request-id": f"{WORD} 1"}),
        http.get(f"/v1/files/{WORD}"),
        http.post("/v1/files", data={"purpose": WORD}, files={"file": (WORD, WORD * 100_000)}),
        http.post("/v1/batches", json={"input_file_id": WORD, "endpoint": WORD, "completion_window": WORD}),
        http.post("/v1/audio/transcriptions", data={"model": "stt"}, files={"file": (WORD, WORD.encode() * 1000)}),
        http.post(
            "/v1/audio/transcriptions",
            content=f"--{WORD}\r\n{WORD}",
            headers={"content-type": "multipart/form-data; boundary=other"},
        ),
    ]
    assert all(400 <= answer.status_code < 500 for answer in answers), [answer.status_code for answer in answers]
    assert not [answer.text for answer in answers if WORD in answer.text]


def begin_batch(server: Running, count: int, word: str = WORD, padding: int = 0) -> tuple[str, str]:
    """The ids of a file of so many lines, one of them wrong, and of its batch."""
    body = {"model": "embeddings", "input": word, "user": "x" * padding}
    lines = [
        json.dumps({"custom_id": f"{word}-{number}", "method": "POST", "url": "/v1/embeddings", "body": body})
        for number in range(count)
    ]
    text = "\n".join([*lines, word]).encode()
    sent = {"file": (f"{word}.jsonl", text)}
    file: str = server.http.post("/v1/files", data={"purpose": "batch"}, files=sent).json()["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "1h", "metadata": {"of": word}}
    return file, server.http.post("/v1/batches", json=asked).json()["id"]


def ended(server: Running, batch_id: str) -> dict[str, Any]:
    """The batch, when it is at its end."""
    wait_until(lambda: server.http.get(f"/v1/batches/{batch_id}").json()["status"] in ENDED)
    batch: dict[str, Any] = server.http.get(f"/v1/batches/{batch_id}").json()
    return batch


def erase(server: Running, *paths: str) -> None:
    """For good."""
    for path in paths:
        assert server.http.delete(path).json()["deleted"] is True


@contextmanager
def half_sent(server: Running, path: str) -> Iterator[None]:
    """An upload of which half has come, more than the system would keep for the server, and whose client stays."""
    half = WORD.encode() * ((24 << 20) // len(WORD))
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {2 * len(half)}\r\n"
        "content-type: multipart/form-data; boundary=b\r\n\r\n"
        f'--b\r\ncontent-disposition: form-data; name="file"; filename="{WORD}"\r\n\r\n'
    )
    url = httpx2.URL(server.url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(head.encode() + half)
        yield


def test_what_clients_send_is_nowhere_but_in_the_database_and_there_until_it_is_erased(folder: Path) -> None:
    with serving(folder, config("llm", "vision", "embeddings", "tts", "stt")) as server:
        ask_everything(server)
        ask_wrongly(server)
        assert strangers(server) == set()
        assert found(folder) == set(), "nor the upload that was refused"
        file, batch_id = begin_batch(server, 200)
        batch = ended(server, batch_id)
        assert batch["request_counts"] == {"total": 201, "completed": 200, "failed": 1}
        assert found(folder)
        assert found(folder) <= {"batches.db", "batches.db-wal"}
        erase(server, f"/v1/batches/{batch_id}", f"/v1/files/{file}")
        assert found(folder) == set(), "while it runs"
        assert server.http.get("/v1/files").json()["data"] == []
        workers = [psutil.Process(pid).environ() for pid in server.workers()]
        assert workers
        assert all(worker.items() >= SILENT.items() for worker in workers)
        assert server.stop() == 0
    assert found(folder) == set()
    assert "127.0.0.1" not in server.log.read_text(), "nor where clients are"
    assert [path for name in ("home", "tmp") for path in files(folder / name)] == []
    state = [*files(folder / "state")]
    assert {"batches.db", "footprints.json"} < {path.name for path in state}
    assert [path for path in state if not any(map(path.relative_to(folder / "state").match, TOLD))] == []
    assert {stat.S_IMODE(path.stat().st_mode) for path in state} == {0o600}


GRAMMAR = f'root ::= "{WORD}" | "a" other\nother ::= [{WORD}]'  # llama.cpp prints what it does not like
BAD_GRAMMARS = (f"root ::= {WORD.capitalize()}", f'root ::= "a" {WORD}', f'root ::= "{WORD}')
PATTERNS = (f"({WORD}", f"{WORD}\\p", f"(?={WORD})a", f"^{WORD}{{2}}$")


def ask_with_constraints(server: Running) -> None:
    """Whatever llama.cpp and its libraries may say of a grammar, a pattern or a schema."""
    for grammar in (GRAMMAR, *BAD_GRAMMARS):
        for path, asked in (("chat/completions", {"messages": CHAT}), ("completions", {"prompt": WORD})):
            body = {"model": "llm", **asked, "grammar": grammar, "max_tokens": 4}
            answer = server.http.post(f"/v1/{path}", json=body)
            assert answer.status_code in {200, 400}
            assert answer.status_code == 200 or WORD not in answer.text
    for schema in ({"type": "string", "pattern": pattern} for pattern in PATTERNS):
        for wanted in (schema, {"type": "object", "properties": {WORD: schema}, "required": [WORD], WORD: True}):
            form = {"type": "json_schema", "json_schema": {"name": WORD, "schema": wanted, "strict": True}}
            answer = server.chat("Say it.", max_tokens=4, response_format=form)
            assert answer.status_code in {200, 400}
            assert answer.status_code == 200 or WORD not in answer.text
    kwargs: dict[str, Any] = {"chat_template_kwargs": {WORD: WORD}, "dry_sequence_breakers": [WORD], "mood": WORD}
    assert server.chat("Say it.", max_tokens=4, **kwargs).status_code == 200


@pytest.mark.parametrize("level", ["debug", "info"])
def test_what_libraries_print_of_a_request_is_in_no_log(level: str, folder: Path) -> None:
    asked = json.loads(config("llm"))
    asked["server"]["log_level"] = level
    asked["models"]["llm"]["options"]["grammar"] = True
    with serving(folder, json.dumps(asked)) as server:
        ask_with_constraints(server)
        (worker,) = server.workers()
        assert WORD not in server.http.get("/admin/models/llm/log").text.lower()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "worker ended unexpectedly" in server.log.read_text())
        assert WORD not in server.http.get("/admin/models/llm/log").text.lower()
        assert server.chat("Say it.", max_tokens=2).status_code == 200, "with a new worker"
    assert WORD not in server.log.read_text().lower()
    assert found(folder) == set()


def test_the_page_is_right() -> None:
    assert all(f"`{name}`" in DOCS for name in SILENT)
    (shown,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    assert parse_config(shown, Path.cwd()).batches.retention < BatchesConfig().retention == 30 * 86400
    assert "30 days" in DOCS
    assert f"the {KEPT_JOURNALS} newest" in DOCS.replace("ten", "10")


def test_one_can_be_erased_beside_another(folder: Path) -> None:
    with serving(folder, config("embeddings")) as server:
        (file, batch_id), (_, other_id) = (begin_batch(server, 50, word) for word in (WORD, OTHER))
        batch, other = ended(server, batch_id), ended(server, other_id)
        made = [batch["output_file_id"], batch["error_file_id"]]
        erase(server, *(f"/v1/files/{name}" for name in (file, *made)))
        left = server.http.get(f"/v1/batches/{batch_id}").json()
        assert (left["output_file_id"], left["request_counts"]) == (None, batch["request_counts"])
        assert left["metadata"] == {"of": WORD}, "which is the batch's own"
        erase(server, f"/v1/batches/{batch_id}")
        assert found(folder) == set()
        assert OTHER in server.http.get(f"/v1/files/{other['output_file_id']}/content").text


def test_a_killed_server_leaves_nothing_that_the_next_one_cannot_erase(folder: Path) -> None:
    with serving(folder, config("embeddings")) as server:
        assert server.embed(WORD).status_code == 200
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)  # the log has its last words
        wait_until(lambda: "worker ended unexpectedly" in server.log.read_text())
        file, batch_id = begin_batch(server, 2000, padding=2000)
        path = f"/v1/batches/{batch_id}"
        wait_until(lambda: server.http.get(path).json()["request_counts"]["completed"] > 0)
        with half_sent(server, "/v1/audio/transcriptions"), half_sent(server, "/v1/files"):
            assert open_files(server, folder / "state")
            assert open_files(server, folder / "tmp") == []
            os.kill(server.pid, signal.SIGKILL)
            server.process.wait()
    assert found(folder) <= {"batches.db", "batches.db-wal"}
    assert [*files(folder / "tmp")] == []
    with serving(folder, config("embeddings")) as server:
        assert server.http.post(f"{path}/cancel").json()["status"] in {"cancelling", "cancelled"}
        ended(server, batch_id)
        erase(server, path, f"/v1/files/{file}")
        assert found(folder) == set(), "nor what was half sent"

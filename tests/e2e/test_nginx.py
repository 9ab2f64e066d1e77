"""The committed files for a reverse proxy: a real nginx before a real server."""

import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from ruamel.yaml import YAML

from harness import Running, cohabit, serving, wait_until
from programs import program

pytestmark = [pytest.mark.process, pytest.mark.needs("nginx")]

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = "cohabit.example.org"
MAIN = """
daemon off;
{user}
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log access.log;
    client_body_temp_path body;
    proxy_temp_path proxied;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include deployed.conf;
}}
"""


def listening(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[int]:
    """With deploy/nginx.conf as it is, but for ports and paths; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    authority = trustme.CA()
    leaf = authority.issue_cert(NAME)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
    leaf.private_key_pem.write_to_path(folder / "privkey.pem")
    text = (DEPLOY / "nginx.conf").read_text()
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{upstream}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/letsencrypt/live/{NAME}/", ""),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "deployed.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers may not enter the folder
    (folder / "main.conf").write_text(MAIN.format(user=user))
    command = [program("nginx", "nginx"), "-p", str(folder), "-e", "error.log", "-c", "main.conf"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: listening(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "error.log").read_text()
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


class Proxied:
    """The server, and a client that comes by the proxy."""

    def __init__(self, server: Running, folder: Path, port: int, client: httpx2.Client) -> None:
        self.server = server
        self.folder = folder
        self.origin = f"https://{NAME}:{port}"
        self.client = client

    def ask(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """One request."""
        return self.client.request(method, path, extensions={"sni_hostname": NAME}, **more)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """deploy/cohabit.yaml, with other models, behind deploy/nginx.conf."""
    folder = tmp_path_factory.mktemp("served")
    added = cohabit("keys", "add", "root", "--admin", env=os.environ | {"COHABIT_HOME": str(folder)})
    assert added.returncode == 0, added.stderr
    key = added.stdout.strip()
    config = YAML(typ="safe", pure=True).load((DEPLOY / "cohabit.yaml").read_text())
    assert config["server"]["keys"] is True
    config["models"] = {"slow": {"engine": "fake", "options": {"tokens": 1000, "token_seconds": 0.02}}}
    with serving(folder, json.dumps(config)) as running:
        front = tmp_path_factory.mktemp("nginx")
        with nginx(front, httpx2.URL(running.url).port or 0) as port:
            context = ssl.create_default_context(cafile=front / "authority.pem")
            headers = {"host": f"{NAME}:{port}", "authorization": f"Bearer {key}"}
            with httpx2.Client(
                base_url=f"https://127.0.0.1:{port}", verify=context, headers=headers, timeout=30.0
            ) as client:
                yield Proxied(running, front, port, client)


CHAT = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "hello"}]}


def test_stream_is_not_buffered(proxied: Proxied) -> None:
    """Nothing of it is kept until there is more: what comes first is here while the rest is not even made."""
    with proxied.client.stream(
        "POST", "/v1/chat/completions", json=CHAT, extensions={"sni_hostname": NAME}
    ) as answer:
        assert answer.status_code == 200
        lines = (line for line in answer.iter_lines() if line.startswith("data: "))
        for _ in range(3):
            assert '"content"' in next(lines)
        [model] = proxied.ask("GET", "/admin/status").json()["models"]
        assert model["in_flight"] == 1
    wait_until(lambda: proxied.ask("GET", "/admin/status").json()["models"][0]["in_flight"] == 0)


def test_an_upload_gets_through_and_leaves_no_trace(proxied: Proxied) -> None:
    line = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"user": "%b"}}\n'
    data = line % (b"x" * (4 << 20))
    answer = proxied.ask("POST", "/v1/files", files={"file": ("a.jsonl", data)}, data={"purpose": "batch"})
    assert answer.status_code == 200
    assert proxied.ask("GET", f"/v1/files/{answer.json()['id']}/content").content == data
    for buffered in ("body", "proxied"):
        assert not [path for path in (proxied.folder / buffered).rglob("*") if path.is_file()]
    assert "buffered to a temporary file" not in (proxied.folder / "error.log").read_text()


def test_too_large_form_is_refused_by_the_server(proxied: Proxied) -> None:
    form = {"file": ("a.wav", bytes(61 << 20))}
    answer = proxied.ask("POST", "/v1/audio/transcriptions", files=form, data={"model": "slow"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_unknown_host_name_is_refused(proxied: Proxied) -> None:
    answer = proxied.ask("GET", "/v1/models", headers={"host": "rebound.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_host")


def test_own_pages_are_same_origin_through_the_proxy(proxied: Proxied) -> None:
    """By the scheme that the proxy hands on; what a client says of itself is not believed."""
    for origin, status in ((proxied.origin, 200), (proxied.origin.replace("https", "http"), 403)):
        headers = {"origin": origin, "x-forwarded-proto": "http", "x-forwarded-for": "192.0.2.1"}
        assert proxied.ask("GET", "/v1/models", headers=headers).status_code == status


def test_keys_are_required_behind_the_proxy(proxied: Proxied) -> None:
    assert proxied.ask("GET", "/v1/models", headers={"authorization": ""}).status_code == 401
    assert httpx2.get(f"{proxied.server.url}/v1/models").status_code == 401


def test_the_service_is_what_the_docs_say() -> None:
    unit = (DEPLOY / "cohabit.service").read_text()
    page = (DEPLOY.parent / "docs" / "deployment.md").read_text()
    home = re.search(r"COHABIT_HOME=(\S+)", unit)
    started = re.search(r"^ExecStart=(\S+) serve (\S+)$", unit, re.MULTILINE)
    assert home is not None
    assert started is not None
    assert f"COHABIT_HOME={home[1]} {started[1]} keys add" in page
    assert f"deploy/cohabit.yaml {started[2]}" in page

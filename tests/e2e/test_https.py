"""https by a server as it is started: official clients, our own commands, files that cannot be served with."""

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import trustme

from harness import Running, cohabit, serving

pytestmark = pytest.mark.process

CONFIG = """
server: {tls: {certificate: cert.pem, key: key.pem}, cors: ["https://app.example.org"]}
models: {llm: {engine: fake, options: {tokens: 4}}}
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def put(leaf: trustme.LeafCert, folder: Path) -> None:
    leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    leaf.private_key_pem.write_to_path(folder / "key.pem")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("https")
    put(authority.issue_cert("127.0.0.1", "localhost"), folder)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    with serving(folder, CONFIG) as running:
        assert running.url.startswith("https://127.0.0.1:")
        yield running


@pytest.fixture
def trusted(server: Running, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment as a user of a private authority has it."""
    path = str(server.log.with_name("authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", path)
    return path


@pytest.mark.usefixtures("trusted")
def test_official_client_works_over_https(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        asked: Any = {"model": "llm", "messages": [{"role": "user", "content": "hello"}]}
        whole = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True))
    assert whole.usage.completion_tokens == 4
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "0 1 2 3 "


def test_commands_work_over_https(server: Running, trusted: str) -> None:
    def run(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return cohabit(*arguments, "--url", server.url, env=environment)

    environment = dict(os.environ)
    assert environment["SSL_CERT_FILE"] == trusted
    assert "llm" in run("status", environment=environment).stdout
    assert run("load", "llm", environment=environment).stdout == "llm: done, it is ready\n"
    del environment["SSL_CERT_FILE"]
    refused = run("status", environment=environment)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "certificate verify failed" in refused.stderr


@pytest.mark.usefixtures("trusted")
def test_web_pages_work_over_https(server: Running) -> None:
    with httpx2.Client(base_url=server.url) as client:
        for origin, status in ((server.url, 200), ("https://app.example.org", 200), ("https://evil.example", 403)):
            answer = client.get("/v1/models", headers={"origin": origin})
            assert answer.status_code == status, origin
        answer = client.get("/v1/models", headers={"host": "rebound.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_host")


@pytest.mark.usefixtures("trusted")
def test_renewed_certificate_is_loaded_and_a_missing_one_is_survived(server: Running, authority: trustme.CA) -> None:
    url = httpx2.URL(server.url)

    def shown() -> str:
        context = ssl.create_default_context()
        with (
            socket.create_connection((url.host, url.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            certificate = connection.getpeercert()
            assert certificate is not None
            return str(certificate["serialNumber"])

    with httpx2.Client(base_url=server.url) as client:
        assert client.get("/health/ready").status_code == 200
        before = shown()
        put(authority.issue_cert("127.0.0.1", "localhost"), server.log.parent)
        renewed = shown()
        assert renewed != before
        server.log.with_name("key.pem").write_text("damaged")
        assert shown() == renewed
        assert client.get("/health/ready").status_code == 200, "who was connected notices nothing"
    server.until(lambda: "certificate cannot be renewed" in server.log.read_text())  # a thread writes the log
    lines = server.log.read_text()
    assert lines.count("certificate renewed") == 1
    assert lines.count("certificate cannot be renewed") == 1


def test_open_connection_does_not_delay_shutdown(tmp_path: Path, authority: trustme.CA) -> None:
    put(authority.issue_cert("127.0.0.1"), tmp_path)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serving(tmp_path, CONFIG) as running, httpx2.Client(base_url=running.url, verify=context) as client:
        assert client.get("/health/live").status_code == 200
        assert running.stop() == 0
        assert "timeout graceful shutdown exceeded" not in running.log.read_text()


def started(folder: Path) -> subprocess.CompletedProcess[str]:
    """What becomes of a server that cannot be."""
    (folder / "config.yaml").write_text(CONFIG)
    environment = os.environ | {"COHABIT_HOME": str(folder)}
    return cohabit("serve", "config.yaml", "--port", "0", cwd=folder, env=environment)


def test_unusable_certificate_is_explained_in_one_line(tmp_path: Path, authority: trustme.CA) -> None:
    ended = started(tmp_path)
    line = f"server.tls.certificate: {tmp_path}/cert.pem cannot be read: No such file or directory\n"
    assert (ended.returncode, ended.stderr) == (2, line)
    put(authority.issue_cert("localhost"), tmp_path)
    authority.issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    ended = started(tmp_path)
    line = f"server.tls.key: {tmp_path}/key.pem is not that of the certificate\n"
    assert (ended.returncode, ended.stderr) == (2, line)


def test_expired_certificate_is_a_warning(tmp_path: Path, authority: trustme.CA) -> None:
    until = datetime.now(UTC) - timedelta(days=1)
    put(authority.issue_cert("127.0.0.1", not_before=until - timedelta(days=1), not_after=until), tmp_path)
    with serving(tmp_path, CONFIG) as running:
        said = "server.tls.certificate: clients will refuse it: certificate has expired\n"
        assert running.log.read_text().startswith(said)

"""What the README shows is what happens."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Running, serving

pytestmark = [pytest.mark.process, pytest.mark.model]

README = (Path(__file__).parents[2] / "README.md").read_text()
SHOWN = "http://127.0.0.1:8000"


def blocks(language: str) -> list[str]:
    """The README's code blocks of a language that talk to the server."""
    return [block for block in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if SHOWN in block]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The preset."""
    with serving(tmp_path_factory.mktemp("readme")) as running:
        yield running


@pytest.mark.parametrize("number", range(4))
def test_every_curl(server: Running, number: int) -> None:
    commands = [block for block in blocks("sh") if block.startswith("curl")]
    assert len(commands) == 4
    command = commands[number].replace(SHOWN, server.url).replace("curl ", "curl --fail-with-body -sS ", 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = ["Paris", "Paris", '"embedding"', '"schema":1'][number]
    assert expected in done.stdout


def test_every_python_snippet(server: Running) -> None:
    (snippet,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", snippet.replace(SHOWN, server.url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Paris" in done.stdout, done.stderr


def test_the_config_it_shows_is_right(tmp_path: Path) -> None:
    from cohabit.config.load import parse_config

    (shown,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    config = parse_config(shown, tmp_path)
    assert config.models["chat"].engine == "llamacpp"

"""docs/clients.md, word for word."""

import os
import re
import sys
from pathlib import Path

import pytest

from clients.environments import CLEAN, ROOT, javascript, program, said
from harness import Running

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.clients]

SHOWN = "http://127.0.0.1:8000"
SECTIONS = {
    title: re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    for title, text in re.findall(
        r"^## (.*?)\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL | re.MULTILINE
    )
}
PYTHONS = {"openai, Python": "", "LangChain": "langchain", "LlamaIndex": "llama_index"}


def shown(title: str, server: Running) -> dict[str, str]:
    """The code of a section by language, for this server."""
    return {language: code.replace(SHOWN, server.url) for language, code in SECTIONS[title]}


def test_every_section_is_tried() -> None:
    assert set(SECTIONS) == {"curl", "openai, JavaScript", "llm", *PYTHONS}
    assert all(SHOWN in "".join(code for _, code in blocks) for blocks in SECTIONS.values())


@pytest.mark.needs("curl")
def test_curl(preset: Running) -> None:
    command = shown("curl", preset)["sh"].replace("curl ", "curl --fail-with-body -sS ", 1)
    assert "Paris" in said(["bash", "-c", command])


@pytest.mark.parametrize("title", PYTHONS)
def test_python(preset: Running, title: str) -> None:
    python = program(PYTHONS[title]) if PYTHONS[title] else sys.executable
    lines = said([python, "-I", "-c", shown(title, preset)["python"]]).split("\n")
    assert "Paris" in lines[0]
    assert title == "openai, Python" or lines[1] == "384"


@pytest.mark.needs("node")
def test_javascript(preset: Running) -> None:
    assert "Paris" in javascript(shown("openai, JavaScript", preset)["js"])


def test_llm(preset: Running, tmp_path: Path) -> None:
    code = shown("llm", preset)
    (tmp_path / "extra-openai-models.yaml").write_text(code["yaml"])
    path = os.pathsep.join([str(Path(program("llm", "llm")).parent), CLEAN["PATH"]])
    environment = CLEAN | {"LLM_USER_PATH": str(tmp_path), "PATH": path}
    assert "Paris" in said(["bash", "-c", code["sh"]], env=environment)
    assert said(["llm", "logs", "path"], env=environment).startswith(f"{tmp_path}{os.sep}")

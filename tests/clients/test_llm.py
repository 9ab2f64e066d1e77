"""The command ``llm``, as docs/clients.md sets it up."""

import json
from pathlib import Path

import pytest

from clients.environments import CLEAN, ROOT, program, said
from harness import Running
from likeness import contains

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.clients]

MODELS = """
- model_id: local
  model_name: llm
  api_base: {url}/v1
  supports_schema: true
- model_id: local-vision
  model_name: vision
  api_base: {url}/v1
  vision: true
- model_id: local-completion
  model_name: llm
  api_base: {url}/v1
  completion: true
"""
EXACT = ["-o", "temperature", "0", "-o", "max_tokens", "40"]
QUESTION = "What is the capital of France?"


@pytest.fixture
def user(preset: Running, tmp_path: Path) -> Path:
    """The folder of somebody who has set it up for the server."""
    (tmp_path / "extra-openai-models.yaml").write_text(MODELS.format(url=preset.url))
    return tmp_path


def llm(user: Path, *words: str) -> str:
    """What it prints."""
    return said([program("llm", "llm"), *words], env=CLEAN | {"LLM_USER_PATH": str(user)}, input="")


def test_streamed_and_plain(user: Path) -> None:
    streamed = llm(user, "-m", "local", *EXACT, QUESTION)
    assert "Paris" in streamed
    assert llm(user, "-m", "local", "--no-stream", *EXACT, QUESTION) == streamed


def test_what_was_said_before_counts(user: Path) -> None:
    llm(user, "-m", "local", *EXACT, QUESTION)
    assert llm(user, "-c", *EXACT, "Repeat that.")
    *_, last = json.loads(llm(user, "logs", "--json", "-n", "0"))
    assert last["input_tokens"] > 25, "the question and its answer were sent again"


def test_a_schema(user: Path) -> None:
    person = json.loads(llm(user, "-m", "local", *EXACT, "--schema", "name, age int", "Bob is 33."))
    assert set(person) == {"name", "age"}


def test_a_picture(user: Path) -> None:
    picture = str(ROOT / "docs" / "invoice.png")
    assert contains(llm(user, "-m", "local-vision", "What does it say?", "-a", picture), "2026-00417")


def test_a_completion(user: Path) -> None:
    assert "Paris" in llm(user, "-m", "local-completion", *EXACT, "The capital of France is")

"""Clients as their users run them: each in an environment of its own, where its pins clash with nobody's.

``make clients`` makes these from ``tests/clients/*/requirements.txt`` and ``tests/clients/node/package-lock.json``;
Node.js itself comes from PyPI.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import programs
from programs import CLIENTS

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "COVERAGE_", "OPENAI_", "LANGCHAIN_", "LANGSMITH_", "LLM_"))
}
"""This environment without what would lead them to our packages or to somebody else's server."""


def program(client: str, name: str = "python") -> str:
    """A program of a client's virtual environment."""
    found = CLIENTS / client / "bin" / name
    assert found.exists(), f"{found} is not there; `make clients` installs it"
    return str(found)


def said(command: list[str], **how: Any) -> str:
    """What a command prints. AssertionError with what it complains of if it fails."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, check=False, **{"env": CLEAN, "timeout": 120, **how}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def javascript(code: str, **environment: str) -> str:
    """What a module prints that is run by Node.js, with the packages of ``tests/clients/node``."""
    folder = CLIENTS / "node"
    assert (folder / "node_modules").is_dir(), f"{folder}/node_modules is not there; `make clients` installs it"
    node = programs.program("node", "node")
    return said([node, "--input-type=module", "-"], cwd=folder, input=code, env=CLEAN | environment)


def used(client: str, url: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """What ``tests/clients/CLIENT/use.py`` prints, as JSON, of what it saw on a server."""
    script = HERE / client / "use.py"
    command = [program(client), "-I", str(script), f"{url}/v1", *arguments]
    seen: dict[str, Any] = json.loads(said(command, env=CLEAN | environment))
    return seen

"""A program that is missing leaves its tests out, says so, and is an error where all tests are asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from programs import ALL, PROGRAMS, WITHOUT, hidden, missing, program

ROOT = Path(__file__).parent.parent
MARKED = "test_marked_test_finds_its_program"


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.needs(name)) for name in PROGRAMS])
def test_marked_test_finds_its_program(name: str) -> None:
    for command in PROGRAMS[name].commands:
        assert os.access(program(name, command), os.X_OK)


def test_program_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {"curl", "unshare"} <= set(missing())
    (tmp_path / "curl").write_text("#!/bin/sh\n")
    (tmp_path / "curl").chmod(0o755)
    assert "curl" not in missing()


def test_hidden_program_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WITHOUT, "nginx curl")
    assert {"nginx", "curl"} <= set(missing())
    with pytest.raises(AssertionError, match="apt-get install curl"):
        program("curl", "curl")


def test_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WITHOUT, "apache")
    with pytest.raises(ValueError, match="apache"):
        hidden()


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """In the repository, with nothing hidden and nothing demanded but by ``environment``."""
    inherited = {name: value for name, value in os.environ.items() if name not in {ALL, WITHOUT, "PYTEST_ADDOPTS"}}
    return subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, check=False, timeout=120
    )


def pytest_run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Pytest on the marked tests above."""
    command = [sys.executable, "-m", "pytest", "tests/test_programs.py", "-k", MARKED, "-p", "no:cacheprovider"]
    return run([*command, *arguments], **environment)


@pytest.mark.process
@pytest.mark.parametrize("how", [("-q",), ("-n", "1")], ids=["quiet", "xdist"])
def test_run_says_at_its_start_and_end_what_it_leaves_out(how: tuple[str, ...]) -> None:
    everything = " ".join(PROGRAMS)
    done = pytest_run(*how, COHABIT_TEST_WITHOUT=everything)
    lines = [line for line in done.stdout.splitlines() if "apt-get install nginx" in line]
    assert len(lines) == 2, done.stdout
    assert lines[0].startswith("left out: the tests that need")
    assert lines[1].startswith("tests left out:")
    assert "1 without nginx" in lines[1]
    assert "skipped" not in done.stdout
    assert done.returncode == 5, "no test was left"


@pytest.mark.process
def test_run_that_shall_leave_nothing_out_fails_before_any_test() -> None:
    done = pytest_run(COHABIT_TEST_WITHOUT="nginx", COHABIT_TEST_ALL="1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "apt-get install nginx" in done.stderr
    assert "passed" not in done.stdout


@pytest.mark.process
def test_make_says_in_one_line_what_is_left_out() -> None:
    done = run(["make", "--silent", "programs"], COHABIT_TEST_WITHOUT="nginx postgresql")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert "nginx" in line
    assert "postgresql" in line
    refused = run(["make", "--silent", "programs"], COHABIT_TEST_WITHOUT="nginx", COHABIT_TEST_ALL="1")
    assert refused.returncode != 0
    assert "apt-get install nginx" in refused.stderr


@pytest.mark.process
def test_make_builds_no_client_of_hidden_node() -> None:
    with_node = run(["make", "--dry-run", "--always-make", "clients"])
    without = run(["make", "--dry-run", "--always-make", "clients"], COHABIT_TEST_WITHOUT="node")
    assert "npm ci" in with_node.stdout
    assert "npm" not in without.stdout
    assert "langchain" in without.stdout

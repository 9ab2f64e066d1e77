"""``cohabit footprints``: what was measured is shown, and forgotten."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cohabit.cli.main import app
from cohabit.config.load import load_config
from cohabit.runtime.profile_store import Profile, ProfileStore, profile_key

MIB = 1 << 20
CONFIG = "models: {a: {engine: fake}}"


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(app, ["footprints", *arguments])


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where figures of the models a and other are kept; beside it a config that has only a."""
    monkeypatch.setenv("COHABIT_HOME", str(tmp_path))
    config = tmp_path / "models.yaml"
    config.write_text(CONFIG)
    path = tmp_path / "state" / "footprints.json"
    kept = ProfileStore(path, clock=lambda: 1_800_000_000.0)
    key = profile_key(load_config(str(config)).models["a"], "cpu")
    kept.record(key, Profile(model="a", idle=90 * MIB, load=95 * MIB, activation=1314 * MIB, load_seconds=1.0))
    kept.record("x@cpu-1", Profile(model="other", idle=7 * MIB, load=8 * MIB, load_seconds=1.0))
    return path


def test_figures_are_shown_with_their_file_and_when_they_were_measured(file: Path) -> None:
    shown = run("list").stdout
    rows = [line.split() for line in shown.splitlines()]
    assert ["a", "fake@cpu", "90", "MiB", "1,404", "MiB", "95", "MiB", "-", "2027-01-15", "08:00"] in rows
    assert rows[-1] == ["kept", "in", str(file)]
    assert "other" in shown
    assert "other" not in run("list", str(file.parents[1] / "models.yaml")).stdout, "only what the config has"


def test_a_model_is_forgotten(file: Path) -> None:
    done = run("forget", "a")
    assert (done.exit_code, done.stdout) == (0, "forgotten: a\n")
    assert [profile.model for profile in ProfileStore(file).all().values()] == ["other"]
    again = run("forget", "a")
    assert again.exit_code == 1
    assert "nothing was measured of a" in again.stderr


def test_all_are_forgotten(file: Path) -> None:
    assert run("forget", "--all").stdout == "forgotten: a, other\n"
    assert run("list").stderr == "nothing was measured yet\n"
    assert run("forget", "--all").exit_code == 0


@pytest.mark.parametrize("arguments", [[], ["a", "--all"]])
def test_what_is_to_be_forgotten_must_be_said(file: Path, arguments: list[str]) -> None:
    assert run("forget", *arguments).exit_code == 2
    assert len(ProfileStore(file).all()) == 2


def test_a_file_that_cannot_be_written_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("cohabit.runtime.profile_store.write", read_only)
    done = run("forget", "a")
    assert done.exit_code == 1
    assert done.stderr == f"{file}: Read-only file system\n"

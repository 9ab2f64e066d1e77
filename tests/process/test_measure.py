"""``cohabit measure`` on real processes: figures on the screen and on disk, failures told, the others measured."""

import os
import subprocess
from pathlib import Path

import pytest

from cohabit.config.load import load_config
from cohabit.runtime.profile_store import Profile, ProfileStore, profile_key
from harness import cohabit, home, preset

pytestmark = pytest.mark.process

MIB = 1 << 20
CONFIG = """
device: {budget: 300MiB, keep_free: 0}
models:
  fine:
    engine: fake
    concurrency: 2
    options: {idle: 50000000, activation: 30000000, sleep_resident: 5000000, load_seconds: 0.2, wake_seconds: 0.1}
"""
BROKEN = """
  starts: {engine: fake, options: {fail: load}}
  wakes: {engine: fake, options: {fail: wake}}
  answers: {engine: fake, options: {fail: item}}
  lives: {engine: fake, options: {fail: die}}
  ends: {engine: fake, max_run: 300ms, options: {fail: hang}}
  nowhere: {engine: llamacpp, source: "file:/none.gguf", footprint: {idle: 10MiB, inference: 20MiB}}
"""


def measured(tmp_path: Path, config: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Profile | None]]:
    """The command to its end, and the profiles it left."""
    path = tmp_path / "config.yaml"
    path.write_text(config)
    environment = os.environ | {"COHABIT_HOME": str(home(tmp_path))}
    ended = cohabit("measure", path, env=environment, seconds=60)
    kept = ProfileStore(tmp_path / "state" / "footprints.json")
    models = load_config(str(path)).models
    return ended, {name: kept.find(profile_key(model, "cpu")) for name, model in models.items()}


def test_what_was_measured_is_shown_and_kept(tmp_path: Path) -> None:
    ended, profiles = measured(tmp_path, CONFIG)
    assert ended.returncode == 0, ended.stderr
    profile = profiles["fine"]
    assert profile is not None
    assert profile.sleep_resident is not None
    assert 50_000_000 < profile.idle < 50_000_000 + 60 * MIB
    assert profile.load >= profile.idle
    assert 55_000_000 < profile.activation < 60_000_000 + 8 * MIB, "two at once"
    assert 40_000_000 < profile.idle - profile.sleep_resident < 50_000_000
    assert profile.load_seconds >= 0.2
    assert profile.wake_seconds is not None
    assert profile.wake_seconds >= 0.1
    assert profile.sleep_seconds is not None
    assert profile.exit_seconds is not None
    assert profile.run_seconds is None, "how long real requests take is for them to say"
    head, _, row, verdict = ended.stdout.strip().splitlines()
    assert head.split() == ["model", "idle", "inference", "load", "load", "time", "sleep", "wake", "sleeping"]
    assert row.split()[:3] == ["fine", f"{profile.idle / MIB:.0f}", "MiB"]
    assert verdict == "verdict: all fit at once"


def test_a_model_that_fails_is_told_and_the_others_are_measured(tmp_path: Path) -> None:
    ended, profiles = measured(tmp_path, CONFIG.replace("300MiB", "1GiB") + BROKEN)
    assert ended.returncode == 1
    assert [name for name, profile in profiles.items() if profile is not None] == ["fine"]
    told = dict(line.split(": ", 1) for line in ended.stderr.splitlines() if ": " in line)
    assert told == {
        "starts": "told to fail at load",
        "wakes": "out of memory while waking",
        "answers": "it did not answer: told to refuse this request",
        "lives": "its worker ended with exit code 17",
        "ends": "its requests took longer than max_run, 0.3 s",
        "nowhere": "file:/none.gguf: there is no /none.gguf",
    }


def test_one_that_turns_out_never_to_fit_is_code_3(tmp_path: Path) -> None:
    giant = "  giant: {engine: fake, options: {idle: 9000000000000}}\n"
    ended, profiles = measured(tmp_path, CONFIG.replace("300MiB", "100MiB") + giant)
    assert ended.returncode == 3
    assert profiles["fine"] is not None, "it is measured all the same"
    assert "verdict: fine can never fit" in ended.stdout
    assert profiles["giant"] is None
    assert "giant: it is thought to need 8,583,109 MiB and only" in ended.stderr, "the machine survives it"


@pytest.mark.model
def test_a_real_model(tmp_path: Path) -> None:
    ended, profiles = measured(tmp_path, preset("embeddings"))
    assert ended.returncode == 0, ended.stderr
    profile = profiles["embeddings"]
    assert profile is not None
    assert profile.sleep_resident is not None
    assert profile.sleep_resident < profile.idle - 60 * MIB
    assert profile.activation > 20 * MIB

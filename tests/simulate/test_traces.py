"""What is read is what was written; what cannot be read is told by its line."""

import io
from pathlib import Path

import pytest

from cohabit.simulate.traces import Arrival, TraceError, read_trace, write_trace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a trace may be."""
    return tmp_path / "trace.jsonl"


def test_trace_survives_write_and_read(file: Path) -> None:
    arrivals = [Arrival(0.0, "a", 0.25), Arrival(1.5, "b", 0.0, "someone")]
    out = io.StringIO()
    write_trace(arrivals, out)
    assert out.getvalue().splitlines()[0] == '{"at":0.0,"model":"a","run_seconds":0.25}'
    file.write_text(out.getvalue())
    assert read_trace(file) == arrivals


def test_lines_may_be_unordered_blank_or_have_more_fields(file: Path) -> None:
    file.write_text(
        '{"at": 2, "model": "b", "run_seconds": 1, "status": 200}\n\n{"at": 1, "model": "a", "run_seconds": 1}\n'
    )
    assert [arrival.model for arrival in read_trace(file)] == ["a", "b"]


def test_an_alias_becomes_its_model(file: Path) -> None:
    file.write_text('{"at": 0, "model": "gpt-4o", "run_seconds": 1}')
    assert read_trace(file, {"gpt-4o": "llm", "llm": "llm"})[0].model == "llm"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"at": 1, "model": "a"', "not JSON; a line such as"),
        ("\udcff", "not JSON"),
        ('{"at": 1, "model": "a"}', "object missing required field `run_seconds`"),
        ('{"at": -1, "model": "a", "run_seconds": 1}', "at: expected `float` >= 0.0"),
        ('{"at": 1, "model": 7, "run_seconds": 1}', "model: expected `str`, got `int`"),
        ('{"at": 1, "model": "a", "run_seconds": NaN}', "not JSON"),
        ("[]", "expected `object`, got `array`"),
        ('{"at": 1, "model": "lm", "run_seconds": 1}', "the config has no model 'lm'; did you mean llm?"),
        ('{"at": 1, "model": "other", "run_seconds": 1}', "the config has no model 'other'"),
    ],
)
def test_bad_line_is_named_by_its_number(file: Path, line: str, told: str) -> None:
    good = b'{"at": 0, "model": "llm", "run_seconds": 1}\n'
    file.write_bytes(good + line.encode(errors="surrogateescape"))
    with pytest.raises(TraceError) as caught:
        read_trace(file, {"llm": "llm"})
    assert str(caught.value).startswith(f"{file}: line 2: {told}")
    assert "\n" not in str(caught.value)


def test_empty_or_missing_trace_is_an_error(file: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: No such file"):
        read_trace(file)
    file.write_text("\n")
    with pytest.raises(TraceError, match="no request is in it"):
        read_trace(file)

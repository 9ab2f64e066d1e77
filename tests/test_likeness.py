"""What counts as having been understood."""

from likeness import contains, same_lines, understood, word_error


def test_word_error_ignores_case_and_punctuation() -> None:
    assert word_error("a b c d", "A, b. C d!") == 0
    assert word_error("a b c d", "a x c") == 0.5


def test_number_may_be_written_in_digits() -> None:
    said = "The meeting is moved to Thursday at half past nine."
    assert understood(said, '{"text": "The meeting is moved to Thursday at half past 9."}'.partition(": ")[2])
    assert not understood(said, "The ship left the harbour at dawn.")


def test_reading_may_err_in_a_sign() -> None:
    assert contains('The text reads: "INVOICE 2O26-00417" and "Total".', "2026-00417")
    assert not contains('The text reads: "INVOICE" and "Total".', "2026-00417")
    assert same_lines(["ACME Tools Ltd.", "Total"], ["ACME Tools Ltd", "Total"])
    assert not same_lines(["ACME Tools Ltd", "Total", "8"], ["ACME Tools Ltd", "Total"])

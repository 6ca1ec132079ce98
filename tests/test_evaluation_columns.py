"""Text in columns, as wide as it is shown."""

import pytest

from semsearch.evaluation.columns import (
    Cell,
    Column,
    align,
    cut,
    number,
    one_line,
    p_is,
    probability,
    signed,
    signed_bounds,
    width_of,
    words,
)


def test_columns_are_as_wide_as_they_are_shown():
    lines = align(
        [words("kind", ["战国", "a", "මල්"]), Column("n", [Cell("1"), Cell("22"), Cell("3")])]
    )
    assert lines == ["kind   n", "战国   1", "a     22", "මල්     3"]
    assert {width_of(line) for line in lines} == {8}


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 5, "short"),
        ("rather long", 8, "rath ..."),
        ("a b c d e f", 7, "a b ..."),
        ("战国无双", 8, "战国无双"),
        ("战国无双是由", 9, "战国 ..."),
    ],
)
def test_what_is_too_wide_is_cut(text, width, shown):
    assert cut(text, width) == shown
    assert width_of(shown) <= width


def test_numbers_as_people_read_them():
    assert number(None) == "-"
    assert number(2 / 3) == "0.667"
    assert signed(0.0004) == signed(-0.0004) == "0.000"
    assert (signed(0.0416), signed(-0.0416, 2)) == ("+0.042", "-0.04")
    assert signed_bounds((-0.01, 0.02)) == " [-0.010, +0.020]"
    assert signed_bounds(None) == ""
    assert (probability(0.0409), probability(0.0001)) == ("0.041", "<0.001")
    assert (p_is(0.5), p_is(0.0001)) == ("p 0.500", "p < 0.001")


def test_a_text_cannot_drive_the_terminal():
    assert one_line("a\x1b[2J\n\tb  c") == "a [2J b c"
    assert one_line("ශ්\u200dරී") == "ශ්\u200dරී", "a joiner is part of the word"

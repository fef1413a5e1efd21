"""Text is made safe for its medium."""

import tomllib

import pytest

from backfill import escaping
from tests.hostile import NEVER

HOSTILE = "a\x1b]0;t\x07\r\n|`x`<b>\u202e\x9b\udcff\t&"


def test_one_line_of_a_terminal_shows_what_it_would_obey() -> None:
    assert escaping.name(HOSTILE) == "a\\x1b]0;t\\x07\\r\\n|`x`<b>\\u202e\\x9b\\xff\\t&"


def test_a_text_keeps_its_lines_and_tabs_and_letters_of_every_language() -> None:
    assert escaping.text("Zürich\t東京\n\x1b[2J") == "Zürich\t東京\n\\x1b[2J"


def test_a_cell_keeps_to_its_row_in_every_style() -> None:
    for style in ("simple", "github"):
        shown = escaping.table([[HOSTILE, 1], ["plain_name", 2]], ["na|me", "n"], tablefmt=style)
        assert len(shown.splitlines()) == 4
        assert not [mark for mark in NEVER if mark in shown]
    assert "plain_name" in shown
    assert all(line.count("|") - line.count("\\|") == 3 for line in shown.splitlines())


def test_markdown_shows_markup_as_text_and_commands_of_ours_as_code() -> None:
    assert escaping.markdown("<b>*x*|`y`") == "\\<b\\>\\*x\\*\\|\\`y\\`"
    assert escaping.sentence("type `backfill seal 'a|b'` for <b>") == "type `backfill seal 'a|b'` for \\<b\\>"
    assert (
        escaping.sentence("type `backfill seal 'a|b'` for <b>", cell=True)
        == "type `backfill seal 'a\\|b'` for \\<b\\>"
    )
    assert escaping.sentence("one ` alone <b>") == "one \\` alone \\<b\\>"


@pytest.mark.parametrize("text", [HOSTILE.replace("\udcff", ""), 'a"b\\c', "", "\x00", "$1"])
def test_a_string_of_toml_reads_back_as_it_was(text: str) -> None:
    written = f"a = {escaping.toml(text)}"
    assert tomllib.loads(written) == {"a": text}
    assert not [mark for mark in NEVER if mark in written]
    assert "\n" not in written


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows wait"), (1, "1 row waits"), (1000, "1,000 rows wait")]
)
def test_words_follow_their_number(number: int, said: str) -> None:
    assert escaping.counted(number, "row waits", "rows wait") == said

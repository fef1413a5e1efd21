"""Tables and sentences at the width of a terminal: nothing wider, nothing cut, colours only where they are wanted."""

import io
import re

import pytest
from rich.cells import cell_len

from backfill.cli.output import Stream, screen_of
from backfill.report import text
from backfill.report.document import Cell, Document, Entries, Entry, Note, Section, Tone, table
from backfill.report.screen import PAGE, Screen
from backfill.report.wrap import wrapped

WIDTHS = (20, 40, 80, 120)
SMALL = table(["table", "rows"], [["events", 1200], ["all", 1200]])
LONG = table(
    ["place", "state", "what"],
    [["user_events.ip_address_string", Cell("FOUND", Tone.ALARM), "a word and " * 30 + "x" * 150]],
)
MANY = table([f"column {number}" for number in range(15)], [[12345] * 15, [*"abcdefghijklmno"]])
WIDE = table(["表", "行"], [["データベース" * 12, 5]])
TABLES = (SMALL, LONG, MANY, WIDE, table(["table", "rows"], []))


class Terminal(io.StringIO):
    """What a person looks at."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def characters(shown: str) -> list[str]:
    return sorted(re.sub(r"[\s:]|^-+$|(?<= )-+(?= )|\x1b\[[0-9;]*m", "", shown, flags=re.M))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("shown", TABLES)
def test_a_table_keeps_to_the_width_and_loses_nothing(shown, width):
    made = text.table(shown, Screen(width))
    assert max(map(cell_len, made.split("\n"))) <= width
    values = [text.written(cell) for row in shown.rows for cell in row]
    have = characters(made)
    for character in set("".join(values)) - set("-: \n"):
        assert have.count(character) >= "".join(values).count(character), character


def test_a_table_that_fits_has_a_line_for_each_row_and_one_with_too_many_columns_a_line_for_each_value():
    assert (
        text.table(SMALL, Screen(80)).split("\n")
        == [
            "table   rows",
            "------ -----",
            "events 1,200",
            "all    1,200",
        ]
        or text.table(SMALL, Screen(80)).count("\n") == 3
    )
    listed = text.table(MANY, Screen(80)).split("\n")
    assert listed[0] == "column 0: 12,345"
    assert listed[1].split() == ["column", "1:", "12,345"]


def test_a_pipe_gets_each_row_and_each_sentence_on_a_line_without_colours():
    for shown in TABLES:
        assert len(text.table(shown).split("\n")) == 2 + len(shown.rows)
    assert "x" * 150 in text.table(LONG)
    said = "word " * 100
    made = Document("title", said, False, (Section("a", "A", (Note(said, Tone.ALARM), LONG)),))
    assert "\x1b" not in text.render(made)
    assert said in text.render(made).split("\n")


def test_colours_repeat_what_the_words_say_and_are_there_only_where_wanted(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "90")
    assert screen_of(Terminal()) == Screen(90, colour=True)
    coloured, plain = text.table(LONG, Screen(80, colour=True)), text.table(LONG, Screen(80))
    assert "\x1b[1;31mFOUND" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert screen_of(Terminal()) == Screen(90)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert screen_of(Terminal()) == Screen(90)
    assert screen_of(io.StringIO()) == PAGE


def test_what_a_terminal_would_obey_is_shown_in_a_table_as_well():
    hostile = table(["name\x1b[2J"], [["\x1b]0;title\x07\r\nnext\u202e"]])
    made = text.blocks([hostile, Note("\x1b[31m"), Entries("\x1b", (Entry("\x9b", "\n"),))], Screen(80))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", made)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_sentence_is_wrapped_between_words_and_a_command_can_be_pasted(width):
    command = "backfill addresses merge --reason 'two spellings of one  thing' --count 12345"
    line = f"- events: 12 rows wait, and more words: (`{command}`), then `backfill verify`."
    lines = wrapped(line, width)
    assert all(cell_len(one) <= width or " " not in one.strip().split("'")[0] for one in lines)
    pasted = re.sub(r" \\\n\s*", " ", "\n".join(lines))
    assert f"`{command}`" in pasted
    assert pasted.split() == line.split()
    assert all(one.startswith("  ") for one in lines[1:])
    assert wrapped("short", width) == ["short"]
    assert wrapped("x" * 200, width) == ["x" * 200]  # a terminal wraps it, and it is copied whole


def test_a_terminal_wraps_every_line_that_a_command_writes_and_a_pipe_none(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    shown = Terminal()
    said = "a sentence of many words, " * 8 + "\n"
    Stream(shown).write(said)
    assert max(map(len, shown.getvalue().split("\n"))) <= 40
    assert shown.getvalue().split() == said.split()
    piped = io.StringIO()
    Stream(piped).write(said)
    assert piped.getvalue() == said
    exact = Terminal()
    Stream(exact).write_unwrapped(said)
    assert exact.getvalue() == said

"""Progress says where a phase is, and never that it is done before it is."""

import io
import re
import sys

import pytest

from backfill.engine.progress import Progress, percent


@pytest.mark.parametrize(
    ("done", "total", "shown"),
    [
        (0, 100, 0),
        (47.9, 100, 47),
        (99.9, 100, 99),
        (100, 100, 99),
        (250, 100, 99),
        (0, 0, None),
        (5, -1, None),
    ],
)
def test_percents_are_rounded_down_and_100_is_the_end(done: float, total: float, shown: int | None) -> None:
    assert percent(done, total) == shown
    assert percent(done, total, finished=True) == 100


def test_what_stops_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("link", 1_000, 480) as progress:
        progress.advance(20)
    assert capsys.readouterr().err == "link: stopped at 50 % (500 of about 1,000 rows)\n"
    with pytest.raises(KeyError), Progress("link", 0):
        raise KeyError
    assert capsys.readouterr().err == "link: stopped at ? (0 of about 0 rows)\n"


def test_what_is_done_says_how_many_there_were(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("link", 1_000) as progress:
        progress.advance(1_200)  # the planner had expected fewer
        progress.finish()
    assert re.fullmatch(r"link: done, 1,200 rows, [\d,]+ rows/s\n", capsys.readouterr().err)


def test_nothing_is_said_of_what_was_done_before_or_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("link", 1_000, 1_000) as progress:
        progress.finish()
    with Progress("link", 1_000, quiet=True) as progress:
        progress.advance(10)
    assert capsys.readouterr().err == ""


def test_the_time_of_a_pause_is_in_no_rate() -> None:
    progress = Progress("link", 1_000, quiet=True)
    progress.advance(10)
    progress.wait()
    worked = progress._active
    assert progress.rest == "waiting"
    progress.wait()
    assert progress._active == worked
    progress.advance(10)
    assert progress._active == worked
    assert progress.rate == 20 / worked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_that_goes_on_begins_at_its_place_and_stays_where_it_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("link", 1_000, 480) as progress:
        progress.advance(0)
        progress._bar.refresh()  # type: ignore[union-attr]
    drawn = [line for line in re.split(r"[\r\n]+", screen.getvalue()) if line.strip()]
    assert all(" 48 % |" in line for line in drawn[:-1])
    assert drawn[-1] == "link: stopped at 48 % (480 of about 1,000 rows)"
    assert "100 %" not in screen.getvalue()
    assert "to go" not in screen.getvalue()
    with Progress("link", 1_000, 999) as progress:
        progress.advance(1)
        assert "100 %" not in screen.getvalue()
        progress.finish()
    assert "100 %" in screen.getvalue()

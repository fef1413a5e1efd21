"""``python -m benchmarks``: measure, and say on what."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from benchmarks import picture, record, report, resolve_alone, verify
from benchmarks.contenders import BASELINE, Contender, all_contenders
from benchmarks.ground import Ground, ground
from benchmarks.measure import Terms, measure
from benchmarks.record import Record

GROWTH = [500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000]
DISTINCT = [1_000, 10_000, 100_000, 1_000_000]
SERIES = (BASELINE, "2 workers")  # what is run in a series
EVENTS, EVENTS_OF_DISTINCT = 500_000, 2_000_000
SHARE = 10  # in the series of growth: one distinct address to so many events
UPDATE_UP_TO = 2_000_000  # beyond, one UPDATE takes a quarter of an hour, and nobody would do it


def _words(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


class Numbers(click.ParamType):
    """``1000,10000``."""

    name = "numbers"

    def convert(self, value, param, ctx) -> list[int]:
        """As a list."""
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 1000,10000", param, ctx)


@click.command()
@click.option("--events", type=int, help=f"Events of the demo database.  [default: {EVENTS:,}]")
@click.option("--addresses", type=int, help="Distinct addresses, about.  [default: what the demo has]")
@click.option("--repeat", default=3, show_default=True, help="Rounds; each contender once a round.")
@click.option("--only", multiple=True, help="Contenders whose name holds this text.")
@click.option(
    "--bare", is_flag=True, help="Time, WAL and sizes only: no live writer, no look at memory or files."
)
@click.option(
    "--growth",
    type=Numbers(),
    is_flag=False,
    flag_value=_words(GROWTH),
    help=f"A series of sizes.  [{_words(GROWTH)}]",
)
@click.option(
    "--distinct",
    type=Numbers(),
    is_flag=False,
    flag_value=_words(DISTINCT),
    help=f"A series of numbers of addresses, among {EVENTS_OF_DISTINCT:,} events.  [{_words(DISTINCT)}]",
)
@click.option(
    "--full",
    is_flag=True,
    help=f"Contenders at {EVENTS_OF_DISTINCT:,} events, then both series, one round each; takes hours.",
)
@click.option("--resolve", "alone", is_flag=True, help="Resolve beside a bare COPY and INSERT instead.")
@click.option("--verify", "proof", is_flag=True, help="Verify and a bare full join instead.")
@click.option(
    "--save", type=click.Path(path_type=Path), help="Append what was measured to this file, as JSON lines."
)
@click.option(
    "--picture",
    "drawn",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Draw these files into docs/benchmarks.svg and print their tables; measures nothing.",
)
def main(
    events: int | None,
    addresses: int | None,
    repeat: int,
    only: tuple[str, ...],
    bare: bool,
    growth: list[int] | None,
    distinct: list[int] | None,
    full: bool,
    alone: bool,
    proof: bool,
    save: Path | None,
    drawn: tuple[Path, ...],
) -> None:
    """Compare ways to link events; every one gets a fresh copy of the same database."""
    if drawn:
        records = record.read(drawn)
        _tell(records)
        click.echo(f"Drawn: {picture.draw(records)}")
        return
    if full:
        measured = _sitting(EVENTS_OF_DISTINCT, None, "contenders", only, repeat, bare, save)
        growth, distinct, repeat = GROWTH, DISTINCT, 1
    else:
        measured = []
    for size in growth or ():
        measured += _sitting(size, size // SHARE, "growth", only or SERIES, repeat, bare, save)
    for number in distinct or ():
        measured += _sitting(
            events or EVENTS_OF_DISTINCT, number, "distinct", only or SERIES, repeat, bare, save
        )
    if measured:
        _tell(measured)
        return
    with ground(events or EVENTS, addresses) as field:
        if proof:
            click.echo(report.about(field) + "\n")
            click.echo(verify.table(verify.measure(field, repeat)))
        elif alone:
            click.echo(report.about(field) + "\n")
            click.echo(resolve_alone.table(resolve_alone.measure(field, repeat)))
        else:
            _tell(_rounds(field, _chosen(only, bare), repeat, "contenders", bare, save))


def _sitting(
    events: int,
    addresses: int | None,
    series: str,
    only: Sequence[str],
    repeat: int,
    bare: bool,
    save: Path | None,
) -> list[Record]:
    """All rounds on one server."""
    chosen = _chosen(only, bare)
    if series != "contenders":
        chosen = [one for one in chosen if one.name != BASELINE or events <= UPDATE_UP_TO]
    with ground(events, addresses) as field:
        return _rounds(field, chosen, repeat, series, bare, save)


def _chosen(only: Sequence[str], bare: bool) -> list[Contender]:
    return [
        one for one in all_contenders(watch=not bare) if not only or any(text in one.name for text in only)
    ]


def _rounds(
    field: Ground, chosen: Sequence[Contender], repeat: int, series: str, bare: bool, save: Path | None
) -> list[Record]:
    about, sitting = report.about(field), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    measured: list[Record] = []
    for number in range(1, repeat + 1):
        for contender in chosen:
            # What is looked at afterwards costs more than the contender, and does not change by round.
            terms = Terms(series, sitting, about, writer=not bare, after=not bare and number == 1)
            measured.append(measure(field, contender, number, terms))
            if save is not None:
                measured[-1].write(save)
            click.echo(
                f"{field.made.events:,} events, round {number}: {contender.name}: {measured[-1].seconds:.1f} s",
                err=True,
            )
    return measured


def _tell(records: Sequence[Record]) -> None:
    """Every sitting's own table of contenders; the series in one."""
    compared = [one for one in records if one.series == "contenders"]
    for sitting in dict.fromkeys(one.sitting for one in compared):
        found = [one for one in compared if one.sitting == sitting]
        told = (
            found[0].about,
            report.table(found),
            report.aims(found),
            report.parts(found),
            report.same_rows(found),
        )
        click.echo("\n\n".join(text for text in told if text) + "\n")
    for series in ("growth", "distinct"):
        found = [one for one in records if one.series == series]
        if found:
            click.echo("\n".join(dict.fromkeys(one.about for one in found)) + "\n")
            click.echo(report.growth(found) + "\n")


if __name__ == "__main__":
    main()

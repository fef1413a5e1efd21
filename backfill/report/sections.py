"""Sections: the document, from the facts. What a report says is decided here, once for all faces."""

from collections.abc import Iterator, Sequence

from backfill.gates.survey import Stage, State
from backfill.ledger.coverage_record import Kind
from backfill.report import ages, annex, coverage, pictures
from backfill.report.document import (
    Block,
    Cell,
    Column,
    Document,
    Entries,
    Entry,
    Note,
    Picture,
    Section,
    Table,
    Tone,
)
from backfill.report.facts import Facts, Geography, RunStory
from backfill.report.machine import as_data
from backfill.report.signature import signed

SHOWN_COUNTRIES = 12  # the others are one row
WITHOUT_COUNT = ("drop", "seal")  # decisions about a column, not about rows


def document(facts: Facts) -> Document:
    """The report."""
    made = Document(
        title=f"Raw addresses in {facts.database}: report of {facts.made:%Y-%m-%d %H:%M} UTC",
        verdict=facts.verdict,
        good=facts.covered and facts.standing.holds,
        sections=tuple(_sections(facts)),
        data=as_data(facts),
    )
    return signed(made)


def _sections(facts: Facts) -> Iterator[Section]:
    yield Section("coverage", "Coverage", tuple(_coverage(facts)))
    if facts.standing.jobs:
        yield Section("ages", "How old raw values are", tuple(ages.blocks(facts.standing)))
    yield Section("left", "What is left, and who must act", (_left(facts),))
    yield Section("gates", "Gates", tuple(_gates(facts.stages)))
    if facts.run:
        yield Section("run", f"Run {facts.run.number}", tuple(_run(facts.run)))
    if facts.geography.looked_at:
        yield Section("geography", "Where the events come from", tuple(_geography(facts.geography)))
    quarantine = [*coverage.quarantined(facts.records), *([_quarantine(facts)] if facts.quarantine else [])]
    if quarantine:
        yield Section("quarantine", "Quarantine", tuple(quarantine))
    if facts.decisions:
        yield Section("decisions", "Decisions on record", (_decisions(facts),))
    yield Section("provenance", "Provenance", (_provenance(facts),))
    yield Section("annex", "Annex: what the figures mean", tuple(annex.blocks(facts.records)))


def _coverage(facts: Facts) -> Iterator[Block]:
    since = ". The raw columns, still there then, were dropped afterwards" if facts.dropped else ""
    yield Note(f"As verified: {facts.provenance['verified']}{since}.")
    drawn = [record for record in facts.records if record.kind is not Kind.DISCARD]
    yield Picture(
        "A bar for each table, by what its rows are",
        pictures.coverage_bars(drawn, {record.job: str(coverage.state(record).value) for record in drawn}),
    )
    yield from coverage.counted(facts.records)
    yield from coverage.known(facts.records)


def _left(facts: Facts) -> Entries:
    return Entries(
        "In the order in which it can be done", tuple(Entry(one.who, one.what) for one in facts.left)
    )


def _gates(stages: Sequence[Stage]) -> Iterator[Block]:
    checks = [stage for stage in stages if stage.standing]
    late = [stage for stage in checks if stage.state is not State.DONE]
    if checks:
        yield Note(
            f"{len(checks) - len(late)} of {len(checks)} standing checks hold, which are no change: "
            f"{', '.join(stage.change for stage in checks)}.",
            Tone.ALARM if late else Tone.PLAIN,
        )
    stages = [stage for stage in stages if stage not in checks]
    finished = [stage for stage in stages if stage.state is State.DONE and not stage.lost]
    if finished:
        changes = ", ".join(
            f"{stage.change} ({stage.revision})" if stage.revision else stage.change for stage in finished
        )
        yield Note(f"{len(finished)} of {len(stages)} changes are done: {changes}.")
    if len(finished) == len(stages):
        return
    yield Table(
        "Each schema change that is not done, and what it waits for",
        (Column("change"), Column("revision"), Column("state"), Column("conditions")),
        tuple(
            (
                Cell(stage.change),
                Cell(stage.revision),
                Cell(stage.state.value, Tone(stage.state.value)),
                Cell(_conditions(stage)),
            )
            for stage in stages
            if stage not in finished
        ),
    )
    unmet = []
    for stage in stages:
        if stage.lost:
            unmet.append(
                Entry(stage.change, f"the chain has passed it, and its effect is gone: {stage.lost}")
            )
        unmet += [Entry(stage.change, f"{answer.name}: {answer.evidence}") for answer in stage.unmet]
    if unmet:
        yield Entries("What does not hold", tuple(unmet))


def _conditions(stage: Stage) -> str | None:
    if not stage.answers:
        return None
    return f"{sum(answer.holds for answer in stage.answers)} of {len(stage.answers)} hold"


def _run(run: RunStory) -> Iterator[Block]:
    pace = ""
    if run.seconds:
        pace = f", {run.written / run.seconds:,.0f} a second on average, {pictures.fastest(run):,.0f} at best"
    ended = f", ended {run.ended:%Y-%m-%d %H:%M:%S %Z}" if run.ended else ""
    yield Note(
        f"{run.status}; begun {run.began:%Y-%m-%d %H:%M:%S %Z}{ended}; {run.seconds:,.1f} s of work; "
        f"{run.written:,} values linked or rewritten{pace}."
    )
    if not run.phases:
        return
    if run.seconds:
        yield Picture("Phases of the run, and rows written over time", pictures.timeline(run))
    yield Table(
        "Phases",
        (
            Column("phase"),
            Column("began after (s)", number=True),
            Column("took (s)", number=True),
            Column("rows written", number=True),
        ),
        tuple(
            (
                Cell(phase.name),
                Cell(f"{phase.start:.1f}"),
                Cell(f"{phase.end - phase.start:.1f}"),
                Cell(phase.rows),
            )
            for phase in run.phases
        ),
    )


def _geography(geography: Geography) -> Iterator[Block]:
    sample = " looked at (a sample)" if geography.sampled else ""
    yield Note(
        f"{geography.located:,} of {geography.looked_at:,} events{sample} have geography. "
        "Cells and countries with fewer than five events are not shown."
    )
    if geography.places:
        yield Picture(
            "World map: a dot for each cell of five by five degrees with events", pictures.world(geography)
        )
    shown = list(geography.countries[:SHOWN_COUNTRIES])
    rest = geography.countries[SHOWN_COUNTRIES:]
    if rest:
        shown.append((f"{len(rest)} others", sum(number for _, number in rest)))
    if shown:
        yield Table(
            "Events by country",
            (Column("country"), Column("events", number=True, bars=True)),
            tuple((Cell(name), Cell(number)) for name, number in shown),
        )


def _quarantine(facts: Facts) -> Table:
    return Table(
        "Rows that the runs put aside, by table and reason",
        (
            Column("table"),
            Column("reason"),
            Column("decided about", number=True),
            Column("kept by the plan", number=True),
            Column("waiting", number=True),
        ),
        tuple(
            (
                Cell(one.table),
                Cell(one.reason),
                Cell(one.decided),
                Cell(one.kept),
                Cell(one.waiting, Tone.ALARM if one.waiting else Tone.PLAIN),
            )
            for one in facts.quarantine
        ),
    )


def _decisions(facts: Facts) -> Table:
    return Table(
        "What somebody decided, by exact count",
        (Column("when"), Column("what"), Column("table"), Column("count", number=True), Column("by")),
        tuple(
            (
                Cell(f"{one.at:%Y-%m-%d %H:%M}"),
                Cell(one.shown),
                Cell(one.table),
                Cell(None if one.kind in WITHOUT_COUNT else one.count),
                Cell(one.by),
            )
            for one in facts.decisions
        ),
    )


def _provenance(facts: Facts) -> Entries:
    return Entries(
        "Where all of this comes from", tuple(Entry(name, what) for name, what in facts.provenance.items())
    )

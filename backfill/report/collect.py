"""Collect: the facts of a report, from the ledger and a look at the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from psycopg2 import sql
from sqlalchemy import Connection, Row, func, select

from backfill import __version__
from backfill.database.blocks import heap_of
from backfill.database.connection import rows, value
from backfill.database.quoting import table
from backfill.database.server_identity import database_identity
from backfill.errors import NoRun
from backfill.escaping import counted
from backfill.gates.gate import Gate
from backfill.gates.survey import survey
from backfill.ledger import coverage, erasure_checks, raw_columns, runs
from backfill.ledger.counts import in_order
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.ledger.phases import Work
from backfill.ledger.quarantine import keeps
from backfill.ledger.tables import batches, decisions, quarantine
from backfill.plan import Job, Plan
from backfill.prove.finding import Depth
from backfill.raw_column import RawColumn
from backfill.report import ages
from backfill.report.coverage import beside_hashes, newest, verdict, verified
from backfill.report.facts import Decision, Facts, Geography, Phase, Place, Quarantined, RunStory
from backfill.report.remaining import Scene, left
from backfill.verify import standing
from backfill.verify.confirmation import claim
from backfill.verify.places import kept_place

CELL = 5  # degrees; 550 km at the equator
FEWEST = 5  # events a cell or country needs to be shown
LOOKED_AT = 1_000_000  # events read for the picture; more are sampled by block
PROVED = "every raw column was dropped, after a proof that {what}"
# What each depth of a search has looked through; the verdict claims no more.
LOOKED_THROUGH = {
    Depth.CATALOG: "the catalog of this database",
    Depth.PAGES: "the tables of this database",
    Depth.BYTES: "this database and the files of this server",
}
SLICES = 60  # points of the pace

PLACES = sql.SQL("""
    select floor(case when jsonb_typeof(place.geo -> 'latitude') = 'number' then (place.geo ->> 'latitude')::float end / {cell})::int * {cell},
           floor(case when jsonb_typeof(place.geo -> 'longitude') = 'number' then (place.geo ->> 'longitude')::float end / {cell})::int * {cell},
           place.geo ->> 'country_name', count(*), count(place.geo)
      from (select case when jsonb_typeof({place}) = 'object' then {place} end as geo
              from {table} as event {sample}) as place
     group by 1, 2, 3
""")


def collect(connection: Connection, gate: Gate) -> Facts:
    """The report as of now. Raises ``NoRun`` where nothing was verified."""
    plan = gate.plan
    records = [_record(connection, gate, part) for part in plan.parts]
    found = standing.look(connection, gate.schema, plan, gate.grace)
    stages = survey(connection, gate, found)
    story = _story(connection, plan)
    proved = all(record.covered for record in records)
    proof = erasure_checks.latest(connection, gate.fingerprint)
    scene = Scene(connection, gate.schema, plan, records, stages, gate.fingerprint, found)
    dropped = scene.dropped
    return Facts(
        made=datetime.now(UTC),
        database=str(value(connection, sql.SQL("select current_database()"))),
        verdict=" ".join(
            [
                _gone(connection, gate, records) if proved and dropped else verdict(records),
                *([ages.verdict(found)] if found.jobs else []),
            ]
        ),
        covered=proved,
        dropped=dropped,
        records=records,
        run=story,
        geography=_geography(connection, plan),
        left=left(scene),
        stages=stages,
        decisions=decided(connection, plan),
        quarantine=_quarantine(connection, plan),
        provenance=_provenance(connection, gate, records),
        standing=found,
        erased=proof is not None and proof.verdict == "gone",
    )


def _gone(connection: Connection, gate: Gate, records: Sequence[CoverageRecord]) -> str:
    """Columns are one thing, bytes another: what is known of both, in one sentence."""
    kinds = {record.kind for record in records}
    what = []
    if kinds & {Kind.EVENTS, Kind.ADDRESSES} or Kind.INTO not in kinds:
        what.append(f"its rows are linked to the right address and {claim(records)}")
    if Kind.INTO in kinds:
        into = [record for record in records if record.kind is Kind.INTO]
        where = ", ".join(record.table for record in into)
        what.append(f"in {where} every address had its own hash beside it{beside_hashes(into)}")
    proved = PROVED.format(what="; ".join(what))
    proof = erasure_checks.latest(connection, gate.fingerprint)
    if proof is None:
        return f"Dropped, and not erased yet: {proved}; the bytes are still in the files."
    seen = f"{proof.finished:%Y-%m-%d}, depth: {proof.depth}"
    if proof.verdict == "gone":
        outside = len(proof.external_copies)
        remain = (
            f" {counted(outside, 'item', 'items')} outside of it {'remains' if outside == 1 else 'remain'}."
            if outside
            else ""
        )
        return f"Gone from {LOOKED_THROUGH[proof.depth]}: {proved}; no raw address was found there ({seen}).{remain}"
    if proof.verdict == "unproved":
        return f"Dropped, and not proved erased: {proved}; some places could not be looked at ({seen})."
    return f"Dropped, and NOT erased: {proved}; raw addresses were found afterwards ({seen})."


def _record(connection: Connection, gate: Gate, part: RawColumn) -> CoverageRecord:
    found = coverage.latest(connection, part, gate.fingerprint)
    if found is None:
        raise NoRun(what=f"proof of {part.label}", command="backfill verify")
    record, genuine = found
    now, then = raw_columns.place(connection, part), record.evidence.raw_column
    if now and then and now != then:
        what = f"proof of the {part.label} that is there now (its table or column was replaced or renamed)"
        raise NoRun(what=what, command="backfill verify")
    touched = "the record was changed after it was entered, or is about another database: it opens no gate"
    return replace(
        record,
        counts=in_order(record.counts),
        notes=record.notes if genuine else (*record.notes, touched),
    )


def _story(connection: Connection, plan: Plan) -> RunStory | None:
    try:
        run = runs.latest(connection)
    except NoRun:
        return None
    found = connection.execute(
        select(batches)
        .where(batches.c.run_id == run.id, batches.c.finished.is_not(None))
        .order_by(batches.c.finished)
    ).all()
    spans = [(row, row.finished.timestamp() - row.seconds, row.finished.timestamp()) for row in found]
    begin = min((start for _, start, _ in spans), default=run.created.timestamp())
    end = max((stop for _, _, stop in spans), default=begin)
    names = dict.fromkeys(row.phase.group for row in found)
    return RunStory(
        number=run.id,
        status=run.status.value,
        began=run.created,
        ended=run.finished,
        jobs=tuple(plan.label(job) for job in run.identity.jobs),
        phases=tuple(
            Phase(
                name,
                min(start for row, start, _ in spans if row.phase.group == name) - begin,
                max(stop for row, _, stop in spans if row.phase.group == name) - begin,
                sum(row.written for row in found if row.phase.group == name),
            )
            for name in names
        ),
        pace=_pace(spans, begin, end),
        seconds=end - begin,
        written=sum(row.written for row in found if row.phase.work is Work.LINK),
    )


def _pace(
    spans: list[tuple[Row[tuple[object, ...]], float, float]], begin: float, end: float
) -> tuple[tuple[float, int], ...]:
    """Rows linked in each slice; a batch's rows are spread evenly over its time."""
    if end <= begin:
        return ()
    width = (end - begin) / SLICES
    edges = [begin + number * width for number in range(SLICES + 1)]
    pace = []
    for low, high in pairwise(edges):
        rows_here = sum(
            row.written * max(0.0, min(high, stop) - max(low, start)) / max(stop - start, 1e-6)
            for row, start, stop in spans
            if row.phase.work is Work.LINK
        )
        pace.append((low - begin, round(rows_here)))
    return tuple(pace)


def _geography(connection: Connection, plan: Plan) -> Geography:
    placed: list[tuple[Job, sql.Composable]] = [
        (job, sql.SQL("({} -> 'geoip_info')").format(sql.Identifier("event", job.extra)))
        for job in plan.link_jobs
        if job.extra is not None
    ]
    placed += [(job, kept_place(job.place)["place"]) for job in plan.jobs if job.place is not None]
    estimate = sum(heap_of(connection, job).rows for job, _ in placed)
    sample: sql.Composable = sql.SQL("")
    if estimate > LOOKED_AT:
        sample = sql.SQL("tablesample system ({})").format(sql.Literal(100 * LOOKED_AT / estimate))
    places: dict[tuple[int, int], int] = {}
    countries: dict[str, int] = {}
    located = looked_at = 0
    for job, place in placed:
        statement = PLACES.format(place=place, table=table(job), sample=sample, cell=sql.Literal(CELL))
        for latitude, longitude, country, number, with_geo in rows(connection, statement):
            looked_at, located = looked_at + number, located + with_geo
            if latitude is not None and longitude is not None:
                places[latitude, longitude] = places.get((latitude, longitude), 0) + number
            if country is not None:
                countries[country] = countries.get(country, 0) + number
        connection.rollback()
    return Geography(
        places=tuple(Place(*cell, number) for cell, number in sorted(places.items()) if number >= FEWEST),
        countries=tuple(
            sorted(
                ((name, number) for name, number in countries.items() if number >= FEWEST),
                key=lambda one: -one[1],
            )
        ),
        located=located,
        looked_at=looked_at,
        sampled=estimate > LOOKED_AT,
    )


def decided(connection: Connection, plan: Plan) -> list[Decision]:
    """All decisions on record, in their order."""
    statement = select(decisions).order_by(decisions.c.id)
    return [
        Decision(
            row.kind,
            plan.label(row.job),
            int(row._mapping["count"]),
            row.decided_by,
            row.decided,
            _object(row.detail),
        )
        for row in connection.execute(statement)
    ]


def _object(detail: Mapping[str, Any]) -> str:
    """What a decision was about, from its detail."""
    if fate := detail.get("fate"):
        return f"as {fate}"
    restore = f", restore point {detail['restore point']}" if detail.get("restore point") else ""
    return str(detail.get("column") or detail.get("what") or "") + restore


def _quarantine(connection: Connection, plan: Plan) -> list[Quarantined]:
    where = quarantine.c
    statement = (
        select(
            where.job,
            where.reason,
            func.coalesce(func.sum(where.rows).filter(where.decision_id.is_(None)), 0),
            func.coalesce(func.sum(where.rows).filter(where.decision_id.is_not(None)), 0),
        )
        .group_by(where.job, where.reason)
        .order_by(where.job, where.reason)
    )
    return [
        Quarantined(
            plan.label(job),
            reason,
            0 if kept else int(waiting),
            int(decided),
            int(waiting) if kept else 0,
        )
        for job, reason, waiting, decided in connection.execute(statement)
        for kept in (keeps(plan, job, reason),)
    ]


def _provenance(connection: Connection, gate: Gate, records: list[CoverageRecord]) -> dict[str, str]:
    evidence = newest(records).evidence
    key_id = next((run.identity.key_id for run in _latest(connection)), "none")
    restore = gate.restore_point or _restore_point(connection)
    return {
        "plan": f"{gate.plan.name}, fingerprint {gate.fingerprint}",
        "hash scheme": gate.plan.hash.scheme,
        "key id": key_id,
        "geo database": f"{evidence.geo_type}, built {evidence.geo_build:%Y-%m-%d}"
        " (events of all years get the geography of this build)"
        if evidence.geo_build
        else "unknown",
        "verified": verified(records),
        "tool": f"backfill {evidence.version or 'of an unknown version'} verified, {__version__} wrote this report",
        "server": f"PostgreSQL {value(connection, sql.SQL('show server_version'))}",
        "database": f"{value(connection, sql.SQL('select current_database()'))} ({database_identity(connection)})",
        "restore point": f"{restore} (on the operator's word: it cannot be checked from here)"
        if restore
        else "none named",
    }


def _latest(connection: Connection) -> list[runs.Run]:
    try:
        return [runs.latest(connection)]
    except NoRun:
        return []


def _restore_point(connection: Connection) -> str | None:
    statement = (
        select(decisions.c.detail["restore point"].astext)
        .where(decisions.c.kind.in_(("drop", "rewrite")))
        .order_by(decisions.c.id.desc())
        .limit(1)
    )
    return connection.execute(statement).scalar()

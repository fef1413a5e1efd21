"""Link: every event row gets its address row and its own geo, set-based, in the server.

The first kind of job. What is the same for all kinds stands in ``apply``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.columns import column_type
from backfill.database.connection import execute
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.jobs import batch_map, index_hint
from backfill.jobs.in_pass import in_pass
from backfill.jobs.passes import Pass
from backfill.jobs.row_needs import (
    lacks_geo,
    linked,
    may_be_address,
    object_of,
    raw_text,
    readable_place,
    short,
    unlinked,
)
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.plan import LinkJob, Plan

LINK = sql.SQL("""
    update {table} as event
       set {assignments}
      from {map} as map
     where map.raw OPERATOR(pg_catalog.=) {text}
       and map.address_id is not null                     -- a text that is no address links nowhere
       and (event.{link} is null or ({needs_geo}))        -- idempotent
       and {looks}
       and {in_range}
       and {in_pass}
""")

# This one runs under the application's search_path: every operator and function of it is qualified.
SET_LINK = sql.SQL("{link} = coalesce(event.{link}, map.address_id)")  # the live application wins
SET_GEO = sql.SQL("""
    {extra} = case when {needs_geo}
                   then {object} OPERATOR(pg_catalog.||) map.geo
                   else event.{extra} end                 -- jsonb || NULL would wipe the column
""")

# A row that the application linked itself, without a text: its place is that of the address.
PLACE_OF_LINK = sql.SQL("""
    update {table} as event
       set {extra} = {object} OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('geoip_info', known.{geo})
      from {addresses} as known
     where known.{key} {equals} event.{link}
       and event.{raw} is null
       and {lacks_geo}
       and {readable}
       and {in_range}
""")

# What a sweep could do beyond links: give a row its geo. Only rows that lack some are looked up.
WITHOUT_GEO = sql.SQL("""
    (event.{raw} is not null and event.{link} is not null and {short} and {lacks_geo}
        and coalesce((select map.address_id is not null and map.geo is not null
                        from {map} as map where map.raw = {text}), {may_be_address}))
    or (event.{raw} is null and event.{link} is not null and {lacks_geo}
        and exists (select from {addresses} as known where known.{address_key} {equals} event.{link} and {readable}))
""")


def statement(
    texts: sql.Identifier, job: LinkJob, now: Pass, unchanged: Sequence[str] = (), *, few: bool = False
) -> sql.Composed:
    """The UPDATE of one pass, from a batch map or all of it.

    *unchanged*: columns that are named, and stay as they are. *few*: rows that have all they need, nearly all of
    them, are told without a look into the map.
    """
    extra = None if job.extra is None else sql.Identifier(job.extra)
    needs_geo = sql.SQL("map.geo is not null and {}").format(lacks_geo(job))
    assignments: list[sql.Composable] = [SET_LINK.format(link=sql.Identifier(job.link))]
    if extra is not None:
        words = object_of(sql.Identifier("event", str(job.extra)))
        assignments.append(SET_GEO.format(extra=extra, needs_geo=needs_geo, object=words))
    assignments += index_hint.as_they_are(unchanged)
    return LINK.format(
        table=table(job),
        map=texts,
        text=raw_text(job),
        link=sql.Identifier(job.link),
        assignments=sql.SQL(", ").join(assignments),
        needs_geo=needs_geo,
        looks=sql.SQL("(event.{} is null or {})").format(sql.Identifier(job.link), lacks_geo(job))
        if few
        else sql.SQL("true"),
        in_range=now.range.holds("event"),
        in_pass=in_pass(now),
    )


def link_rows(connection: Connection, schema: str, job: LinkJob, batch: Batch, now: Pass) -> int:
    """One pass; returns the rows written."""
    few = batch.phase.is_sweep
    texts = batch_map.texts(connection, LinkWriter(job, schema), batch, now)
    unchanged = index_hint.unchanged(connection, job)
    with (
        writes(connection, job),
        execute(connection, statement(texts, job, now, unchanged, few=few)) as cursor,
    ):
        return cursor.rowcount


def place_linked_rows(connection: Connection, job: LinkJob, plan: Plan, now: Pass) -> int:
    """Give rows with a link and no text the place of the address that they are linked to; returns their number."""
    if job.extra is None:
        return 0
    known = plan.addresses
    execute(connection, batch_map.PROBE)
    statement = PLACE_OF_LINK.format(
        table=table(job),
        extra=sql.Identifier(job.extra),
        object=object_of(sql.Identifier("event", job.extra)),
        geo=sql.Identifier(known.geo),
        addresses=table(known),
        key=sql.Identifier(known.key),
        equals=column_type(connection, known, known.key).equals,
        link=sql.Identifier(job.link),
        raw=sql.Identifier(job.raw),
        lacks_geo=lacks_geo(job),
        readable=readable_place(sql.Identifier("known", known.geo), plan.geo.keys),
        in_range=now.range.holds("event"),
    )
    with writes(connection, job), execute(connection, statement) as cursor:
        return cursor.rowcount


@dataclass(frozen=True)
class LinkWriter:
    """Writes link and geo."""

    job: LinkJob
    schema: str  # of the ledger
    carries = (sql.Identifier("map", "address_id"), sql.Identifier("map", "geo"))

    @property
    def unfinished(self) -> sql.Composable:
        """A text and no link."""
        return unlinked(self.job)

    @property
    def finished(self) -> sql.Composable:
        """A text and a link."""
        return linked(self.job)

    @property
    def needs_text(self) -> sql.Composable:
        """No link, or no place."""
        return sql.SQL("(event.{} is not null and (event.{} is null or {}))").format(
            sql.Identifier(self.job.raw), sql.Identifier(self.job.link), lacks_geo(self.job)
        )

    @property
    def usable(self) -> sql.Composable:
        """It names an address."""
        return sql.SQL("map.address_id is not null")

    @property
    def assignment(self) -> sql.Composable:
        """The link alone."""
        return sql.SQL("{} = map.address_id").format(sql.Identifier(self.job.link))

    def more(self, connection: Connection, plan: Plan) -> sql.Composable:
        """A linked row without its geo. A text that the map lacks may have geo as far as anybody knows."""
        job, known = self.job, plan.addresses
        return WITHOUT_GEO.format(
            raw=sql.Identifier(job.raw),
            text=raw_text(job),
            link=sql.Identifier(job.link),
            map=address_map.name(self.schema),
            lacks_geo=lacks_geo(job),
            short=short(raw_text(job)),
            may_be_address=may_be_address(raw_text(job)),
            addresses=table(known),
            address_key=sql.Identifier(known.key),
            equals=column_type(connection, known, known.key).equals,
            readable=readable_place(sql.Identifier("known", known.geo), plan.geo.keys),
        )

    def write(self, connection: Connection, plan: Plan | None, batch: Batch, now: Pass) -> int:
        """Links, and in a sweep the places of rows that are linked and hold no text."""
        written = link_rows(connection, self.schema, self.job, batch, now)
        if plan is not None and batch.phase.is_sweep:  # where the count has seen some
            written += place_linked_rows(connection, self.job, plan, now)
        return written

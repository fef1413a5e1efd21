"""Events: does every row with a raw value have the right link, and geo where its address resolves?"""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import MAX_LENGTH, Reason
from backfill.coverage import addresses as proved_addresses
from backfill.coverage import texts
from backfill.coverage.record import Kind, Record, shortfall
from backfill.database.engine import as_text, rows
from backfill.database.heap import Range, heap_of, ranges
from backfill.database.names import table
from backfill.geo import GeoDatabase
from backfill.jobs.conditions import lacks_geo
from backfill.plan import Addresses, Job

BLOCKS = 10_000  # 80 MB a query: the snapshot lasts about a second
KEYS_SHOWN = 20

# Every row with a raw value is exactly one of: right, settled, unjudged, wrong, misfiled, unlinked,
# rejected or unread.
STATES = {
    "right": "event.{link} is not null and text.address = known.address",
    # The operator or the live application linked a text that is no address to the sentinel.
    "settled": "event.{link} is not null and {rejected} and known.sentinel",
    # The live application made something of a text that we would not guess at; its link stands.
    "unjudged": "event.{link} is not null and {rejected} and not coalesce(known.sentinel, false)",
    "misfiled": "event.{link} is not null and text.address <> known.address and known.sentinel",
    "wrong": "event.{link} is not null and text.address is not null"
    " and text.address is distinct from known.address and not coalesce(known.sentinel, false)",
    "unlinked": "event.{link} is null and text.address is not null",
    "rejected": "event.{link} is null and {rejected}",
    "unread": "text.raw is null and not {too_long}",  # written while we looked
}

COUNT = sql.SQL("""
    select count(*), count(event.{raw}), max({time}) filter (where event.{raw} is not null), {counts}
      from {table} as event
      left join {texts} as text on text.raw = event.{raw}
      left join {proof} as known on known.key = event.{link}
     where {in_range}
""")

WRONG_KEYS = sql.SQL("""
    select event.{key}::text
      from {table} as event
      left join {texts} as text on text.raw = event.{raw}
      left join {proof} as known on known.key = event.{link}
     where {in_range} and event.{raw} is not null and (({wrong}) or ({misfiled}))
     limit {limit}
""")

# When the raw column is gone: a link still leads to an address with a hash of the right form.
LINKS_ONLY = sql.SQL("""
    select count(*), count(event.{link}),
           count(event.{link}) filter (where known.{hash} !~ '^[0-9a-f]{{64}}$' or known.{hash} is null)
      from {table} as event
      left join {addresses} as known on known.{address_key} = event.{link}
     where {in_range}
""")


def _filters(job: Job) -> dict[str, sql.Composable]:
    """A count per state, per reason, and for geo and hash; by the name of the count."""
    names: dict[str, sql.Composable] = {
        "link": sql.Identifier(job.link),
        "too_long": sql.SQL("length(event.{}) > {}").format(sql.Identifier(job.raw), sql.Literal(MAX_LENGTH)),
    }
    names["rejected"] = sql.SQL("(text.reason is not null or {})").format(names["too_long"])
    filters: dict[str, sql.Composable] = {
        state: sql.SQL(condition).format(**names) for state, condition in STATES.items()
    }
    for reason in Reason:
        matches: sql.Composable = sql.SQL("text.reason = {}").format(sql.Literal(reason.value))
        if reason is Reason.TOO_LONG:
            matches = names["too_long"]
        filters[f"reason {reason.value}"] = sql.SQL("event.{link} is null and {matches}").format(
            link=names["link"], matches=matches
        )
    filters["hash wrong"] = sql.SQL("event.{link} is not null and known.hash = 'wrong'").format(**names)
    filters["hash missing"] = sql.SQL("event.{link} is not null and known.hash = 'missing'").format(**names)
    filters["geo missing"] = sql.SQL("text.resolves and {}").format(lacks_geo(job))
    if job.extra is not None:
        # A list, a text or a number has no place for a geoip_info: counted, and nobody's fault.
        filters["geo has no place"] = sql.SQL(
            "text.resolves and jsonb_typeof(event.{}) not in ('object', 'null')"
        ).format(sql.Identifier(job.extra))
    return filters


def verify(connection: Connection, job: Job, geo: GeoDatabase) -> Record:
    """The table's record; needs the verified addresses of this session."""
    filters = _filters(job)
    names = {
        "table": table(job),
        "key": sql.Identifier(job.key),
        "raw": sql.Identifier(job.raw),
        "link": sql.Identifier(job.link),
        "texts": texts.TABLE,
        "proof": proved_addresses.TABLE,
        "time": sql.Identifier("event", job.time) if job.time else sql.SQL("null::text"),
        "counts": sql.SQL(", ").join(
            sql.SQL("count(*) filter (where event.{} is not null and ({}))").format(
                sql.Identifier(job.raw), one
            )
            for one in filters.values()
        ),
        "wrong": filters["wrong"],
        "misfiled": filters["misfiled"],
        "limit": sql.Literal(KEYS_SHOWN),
    }
    sums = dict.fromkeys(["rows", "raw", *filters], 0)
    newest, keys = None, list[str]()
    for span in ranges(heap_of(connection, job).blocks, BLOCKS):
        texts.read(connection, job, span, geo)
        here = names | {"in_range": span.holds("event")}
        ((total, raw, latest, *counted),) = rows(connection, COUNT.format(**here))
        for name, number in zip(sums, [total, raw, *counted], strict=True):
            sums[name] += number
        newest = max(filter(None, (newest, latest)), default=None)
        if sums["wrong"] + sums["misfiled"] > len(keys) < KEYS_SHOWN:
            keys += [key for (key,) in rows(connection, WRONG_KEYS.format(**here))]
        connection.commit()  # temporary rows gave us a transaction id, and vacuum waits for its end
    quarantined = {
        name.removeprefix("reason "): number
        for name, number in sums.items()
        if name.startswith("reason ") and number
    }
    counts = {name: number for name, number in sums.items() if not name.startswith("reason ")}
    counts["no address"] = counts["rows"] - counts["raw"]
    reasons = _reasons(job, counts)
    return Record(
        table=job.name,
        kind=Kind.EVENTS,
        covered=not reasons,
        counts=counts,
        reasons=tuple(reasons),
        raw_rows=counts["raw"],
        newest_raw=as_text(connection, newest),
        quarantined=quarantined,
        wrong_keys=tuple(keys[:KEYS_SHOWN]),
    )


def _reasons(job: Job, counts: dict[str, int]) -> list[str]:
    settle = f"`backfill quarantine settle {job.name} --as sentinel|discard --count {counts['rejected']}`"
    return (
        shortfall(counts["unlinked"], "rows have an address and no link", "`backfill run`")
        + shortfall(
            counts["unread"], "rows were written during this check", "`backfill run`, then verify again"
        )
        + shortfall(counts["wrong"], "rows are linked to another address", "look at the row keys in the JSON")
        + shortfall(
            counts["misfiled"], "rows with an address are linked to the sentinel", "look at the row keys"
        )
        + shortfall(counts["rejected"], "rows hold a text that is no address", settle)
        + shortfall(counts["hash missing"], "rows are linked to an address without a hash", "`backfill run`")
        + shortfall(
            counts["hash wrong"], "rows are linked to an address with a wrong hash", "`backfill calibrate`"
        )
        + shortfall(counts["geo missing"], "rows lack the geo that their address has", "`backfill run`")
    )


def recheck(connection: Connection, addresses: Addresses, job: Job, proved: Record) -> Record:
    """A table whose raw column is gone: its last full record, its links checked again."""
    total = linked = broken = 0
    for span in _spans(connection, job):
        statement = LINKS_ONLY.format(
            link=sql.Identifier(job.link),
            hash=sql.Identifier(addresses.hash),
            table=table(job),
            addresses=table(addresses),
            address_key=sql.Identifier(addresses.key),
            in_range=span.holds("event"),
        )
        ((rows_here, linked_here, broken_here),) = rows(connection, statement)
        total, linked, broken = total + rows_here, linked + linked_here, broken + broken_here
    counts = {"rows": total, "right": linked, "hash wrong": broken, "no address": total - linked}
    reasons = shortfall(
        broken, "rows are linked to an address without a proper hash", "look at the application"
    )
    return Record(
        table=job.name,
        kind=Kind.EVENTS,
        covered=proved.covered and not reasons,
        counts=counts,
        reasons=tuple(reasons),
        raw_rows=0,
        proved=proved.proved,
    )


def _spans(connection: Connection, job: Job) -> list[Range]:
    return list(ranges(heap_of(connection, job).blocks, BLOCKS))

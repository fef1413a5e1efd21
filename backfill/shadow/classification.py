"""Classification: what a row of the copy has to be, as SQL: in one look for nearly all rows, by name for the others.

``fine`` is written to be cheap and to be true of no row that one of ``FAULTS`` or ``BLOCKERS`` holds for. It looks
into the shared proof, where each text has its address row and the geo that it calls for. A row that is not
plainly fine may still be right (settled, or linked without a text): the names tell, by a proof of its own.
"""

from psycopg2 import sql

from backfill.database.quoting import table
from backfill.jobs.row_needs import lacks_geo, may_be_address, raw_text
from backfill.plan import Addresses, LinkJob
from backfill.shadow import names
from backfill.shadow.table_definition import TableDefinition

# What may not be: each of these is a fault of the copy.
FAULTS = {
    "missing": "copy.{key} is null",
    "differing": "copy.{key} is not null and ({original}) is distinct from ({copied})",
    "relinked": "copy.{key} is not null and event.{link} is not null and copy.{link} is distinct from event.{link}",
    "unlinked": "copy.{key} is not null and event.{raw} is not null and copy.{link} is null and text.address is not null",
    "linked for nothing": "event.{raw} is null and event.{link} is null and copy.{link} is not null",
    "other words": "{words_differ}",
    "geo missing": "copy.{key} is not null and text.geo is not null and {lacks_geo}",
    "not judged": "event.{raw} is not null and text.raw is null and {may_be_address}",
}

# What the original brought with it: the copy is right, but nobody could tell any more once it serves.
BLOCKERS = {
    "rejected": "event.{raw} is not null and copy.{link} is null and text.address is null",
    "wrong": "text.address is not null and copy.{link} is not null"
    " and text.address is distinct from abbrev(known.{address})",
    "hash missing": "copy.{link} is not null and event.{raw} is not null and known.{hash} is null",
    "hash wrong": "text.address = abbrev(known.{address}) and known.{hash} <> text.hash",
}

# The event's own words stay; geo is added where there was room for it, and is what the address has.
WORDS_DIFFER = sql.SQL("""
    copy.{key} is not null and copy.{extra} is distinct from event.{extra}
    and ({lacked_geo} and copy.{extra} = coalesce(nullif(event.{extra}, 'null'::jsonb), '{{}}'::jsonb)
         || case when text.geo is not null then text.geo
                 else jsonb_build_object('geoip_info', copy.{extra} -> 'geoip_info') end)
       is not true
""")

# That a link has a hash matters where there is a text to hash.
FINE = sql.SQL("""
    copy.{key} is not null and ({original}) is not distinct from ({copied})
    and (event.{link} is null or copy.{link} = event.{link})
    and case when event.{raw} is not null then copy.{link} = text.link and {words}
             when event.{link} is null then copy.{link} is null and {same_words}
             else {same_words} or {placed} end
""")
SAME_WORDS = sql.SQL("copy.{extra} is not distinct from event.{extra}")
WORDS = sql.SQL("""
    case when {lacked_geo} and text.geo is not null
         then copy.{extra} = coalesce(nullif(event.{extra}, 'null'::jsonb), '{{}}'::jsonb) || text.geo
         else {same_words} end
""")

# Linked without a text: nothing but a place was added.
PLACED = sql.SQL("""
    ({lacked_geo} and copy.{extra} = coalesce(nullif(event.{extra}, 'null'::jsonb), '{{}}'::jsonb)
                                     || jsonb_build_object('geoip_info', copy.{extra} -> 'geoip_info'))
""")

LOOK = sql.SQL("""
    select count(*), count(event.{raw}), count(event.{link}), count(copy.{link}),
           array_agg(event.{key}::text) filter (where ({fine}) is not true)
      from {table} as event
      left join {shadow} as copy on copy.{key} = event.{key}
      left join {expected} as text on text.raw = {text}
     where {which} and {unnoted}
""")

CLASSIFIED = sql.SQL("""
      from {table} as event
      left join {shadow} as copy on copy.{key} = event.{key}
      left join {expected} as text on text.raw = {text}
      left join {addresses} as known on known.{address_key} = copy.{link}
     {more}
     where {which} and {unnoted}
""")

COUNTS = sql.SQL("select count(*), {counts} {classified}")

BLOCKED = sql.SQL("""
    insert into {blockers} (key, kind)
    select event.{key}, flaw.kind {classified} and flaw.holds
""")

UNNOTED = sql.SQL("not exists (select from {log} as note where note.key = {alias}.{key})")


def classified_rows(
    schema: str, job: LinkJob, definition: TableDefinition, expected: sql.Identifier, which: sql.Composable
) -> sql.Composed:
    """Rows, texts, links before and links now; and the keys of those rows that are not plainly fine."""
    parts = _parts(job, definition)
    same: sql.Composable = sql.SQL("true")
    words: sql.Composable = same
    placed: sql.Composable = sql.SQL("false")
    if job.extra is not None:
        same = SAME_WORDS.format(extra=parts["extra"])
        placed = PLACED.format(extra=parts["extra"], lacked_geo=lacks_geo(job))
        words = WORDS.format(extra=parts["extra"], lacked_geo=lacks_geo(job), same_words=same)
    return LOOK.format(
        fine=FINE.format(**parts, words=words, same_words=same, placed=placed),
        table=table(job),
        shadow=table(names.shadow(job)),
        expected=expected,
        which=which,
        unnoted=unnoted(schema, job, "event"),
        **{name: parts[name] for name in ("raw", "link", "key", "text")},
    )


def counts(
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    definition: TableDefinition,
    expected: sql.Identifier,
    which: sql.Composable,
) -> sql.Composed:
    """Rows, and how many each of ``FAULTS`` and ``BLOCKERS`` holds for."""
    named = _conditions(addresses, job, definition)
    return COUNTS.format(
        counts=sql.SQL(", ").join(
            sql.SQL("count(*) filter (where {})").format(condition) for condition in named.values()
        ),
        classified=_judged(schema, addresses, job, expected, which, sql.SQL("")),
    )


def blocked(
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    definition: TableDefinition,
    expected: sql.Identifier,
    which: sql.Composable,
) -> sql.Composed:
    """Put the keys of those rows that one of ``BLOCKERS`` holds for on record, once for each."""
    named = _conditions(addresses, job, definition)
    kinds = sql.SQL(", ").join(
        sql.SQL("({}, {})").format(sql.Literal(kind), named[kind]) for kind in BLOCKERS
    )
    cross = sql.SQL("cross join lateral (values {}) as flaw (kind, holds)").format(kinds)
    return BLOCKED.format(
        blockers=names.blockers(schema, job),
        key=sql.Identifier(names.key(job)),
        classified=_judged(schema, addresses, job, expected, which, cross),
    )


def unnoted(schema: str, job: LinkJob, alias: str) -> sql.Composed:
    """Rows of *alias* that no note speaks of."""
    return UNNOTED.format(
        log=names.log(schema, job), key=sql.Identifier(names.key(job)), alias=sql.Identifier(alias)
    )


def _judged(
    schema: str,
    addresses: Addresses,
    job: LinkJob,
    expected: sql.Identifier,
    which: sql.Composable,
    more: sql.Composable,
) -> sql.Composed:
    return CLASSIFIED.format(
        table=table(job),
        shadow=table(names.shadow(job)),
        expected=expected,
        addresses=table(addresses),
        address_key=sql.Identifier(addresses.key),
        key=sql.Identifier(names.key(job)),
        link=sql.Identifier(job.link),
        raw=sql.Identifier(job.raw),
        text=raw_text(job),
        more=more,
        which=which,
        unnoted=unnoted(schema, job, "event"),
    )


def _parts(job: LinkJob, definition: TableDefinition) -> dict[str, sql.Composable]:
    plain = [c.name for c in definition.columns if c.name not in (job.link, job.extra)]
    parts: dict[str, sql.Composable] = {
        "key": sql.Identifier(names.key(job)),
        "link": sql.Identifier(job.link),
        "raw": sql.Identifier(job.raw),
        "text": raw_text(job),
        "original": sql.SQL(", ").join(sql.Identifier("event", name) for name in plain),
        "copied": sql.SQL(", ").join(sql.Identifier("copy", name) for name in plain),
    }
    if job.extra is not None:
        parts["extra"] = sql.Identifier(job.extra)
    return parts


def _conditions(addresses: Addresses, job: LinkJob, definition: TableDefinition) -> dict[str, sql.Composed]:
    parts = _parts(job, definition) | {
        "address": sql.Identifier(addresses.address),
        "hash": sql.Identifier(addresses.hash),
        "lacks_geo": lacks_geo(job, "copy"),
        "words_differ": sql.SQL("false"),
        "may_be_address": may_be_address(raw_text(job)),
    }
    if job.extra is not None:
        parts["words_differ"] = WORDS_DIFFER.format(
            key=parts["key"], extra=parts["extra"], lacked_geo=lacks_geo(job)
        )
    return {name: sql.SQL(text).format(**parts) for name, text in (FAULTS | BLOCKERS).items()}

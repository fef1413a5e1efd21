"""Columns: whether those of the plan are there, of a type that works, and writable."""

from collections.abc import Iterator

from backfill.age.time_column import TimeColumn
from backfill.database.preflight.finding import Finding, blocks, changes, note
from backfill.database.preflight.target import Column, Purpose, Target
from backfill.plan import Addresses, Discard, InPlaceJob, IntoJob, Job, LinkJob
from backfill.raw_column import Table

NO_COLUMN = blocks("no-column")
TYPE = blocks("column-type")
TIME_TYPE = blocks("time-type")
LINK_TYPE = blocks("link-type")
HASH_LENGTH = blocks("hash-too-short")
GENERATED = blocks("generated-column")
REQUIRED = blocks("required-column")
KEY_DEFAULT = blocks("key-without-default")
DOMAIN = changes("domain-check")
DEFAULT = note("default-of-raw")

TEXTUAL = {"text": "text", "varchar": "character varying", "bpchar": "character", "citext": "citext"}
RAW = {**TEXTUAL, "inet": "inet"}
NETWORKS = "cidr"
MOMENTS = {
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "date": "date",
}
INTEGERS = {"int4": "integer", "int8": "bigint"}
HASH_DIGITS = 64
TYPMOD_EXTRA = 4  # a varchar's typmod is its length and 4


def check(target: Target) -> Iterator[Finding]:
    """Existence, types, generated columns, defaults of what is not given."""
    part = target.part
    if isinstance(part, Addresses):
        yield from _expect(target, part.key, {}, "key")
        yield from _expect(target, part.address, {"inet": "inet"}, "address")
        yield from _expect(target, part.hash, TEXTUAL, "hash")
        yield from _expect(target, part.geo, {"jsonb": "jsonb"}, "geo")
        for name in (part.banned, part.ban_reason, part.ban_date):
            yield from _expect(target, name, {}, "ban")
        yield from _hash_length(target, part, part.hash)
        if target.inserts:
            yield from _what_an_insert_needs(target, part)
    elif isinstance(part, Job):
        for name in part.key_columns or ():
            yield from _expect(target, name, {}, "key")
        # What is rewritten in place asks more of its type: ``raw_type``.
        yield from _expect(target, part.raw, {} if isinstance(part, InPlaceJob) else RAW, "raw address")
        if isinstance(part, LinkJob):
            yield from _expect(target, part.link, {}, "link")
            yield from _expect(target, part.extra, {"jsonb": "jsonb"}, "extra")
        if part.place is not None:
            types = TEXTUAL if part.place.by_key else {"jsonb": "jsonb"}
            for name in part.place.columns:
                yield from _expect(target, name, types, "geo")
        if isinstance(part, IntoJob):
            yield from _expect(target, part.into, TEXTUAL, "into")
            yield from _hash_length(target, part, part.into)
        yield from _expect(target, part.time_column, _moments(part), "time")
        if isinstance(part, LinkJob):
            yield from _link_type(target, part)
    elif isinstance(part, Discard):
        yield from _expect(target, part.time, MOMENTS, "time")
        yield from _expect(target, part.column, {}, "to be discarded")
    if target.writes:
        yield from _written(target)
    raw = target.columns.get(target.raw)
    if isinstance(part, InPlaceJob):
        return  # the column stays
    if raw and raw.has_default and not raw.generated and target.purpose is Purpose.PLAN:
        yield from _default(target, raw)
    if raw and raw.generated and not isinstance(part, Addresses) and target.purpose is not Purpose.READ:
        yield GENERATED(
            target.column(raw.name),
            f"Column {part.name}.{raw.name} (raw address) is generated: no guard can watch it, and what it is generated "
            "from keeps every address.",
            f"alter table {part.name} alter column {raw.name} drop expression; and name its source in the plan as well.",
        )


TIME_FORMS = (
    'Say time = "NAME" for a timestamp with time zone, { column = "NAME", zone = "UTC" } for one without or a date, '
    '{ column = "NAME", unit = "unix-s" } or "unix-ms" for an integer.'
)


def _moments(job: Job) -> dict[str, str]:
    """The types that the job's time column may have, as the plan says that it is read."""
    if not isinstance(job.time, TimeColumn):
        return MOMENTS
    if job.time.unit is not None:
        return INTEGERS
    return {
        name: type_ for name, type_ in MOMENTS.items() if (name == "timestamptz") is (job.time.zone is None)
    }


# That of the column, or of its domain. "DEFAULT NULL" is none. Not shown: it may hold an address.
DEFAULT_OF = """
    select exists (select from pg_attrdef where adrelid = %(table)s and adnum = %(raw)s
                      and pg_get_expr(adbin, adrelid) !~* '^null(::|$)')
        or exists (select from pg_attribute as a join pg_type as t on t.oid = a.atttypid
                    where a.attrelid = %(table)s and a.attnum = %(raw)s and t.typdefault is not null)
"""


def _default(target: Target, raw: Column) -> Iterator[Finding]:
    if target.ask(DEFAULT_OF)[0][0]:
        name = f"{target.part.name}.{raw.name}"
        yield DEFAULT(
            target.column(raw.name),
            f"Column {name} (raw address) has a default: an application that no longer names the column still fills it.",
            f"With the change that stops writing it: alter table {target.part.name} alter column {raw.name} drop default;",
        )


def _expect(target: Target, name: str | None, types: dict[str, str], role: str) -> Iterator[Finding]:
    if name is None:
        return
    known = target.columns.get(name)
    if known is None:
        dropped = target.purpose in (Purpose.READ, Purpose.REMEDY) and name == target.raw
        if dropped and not (isinstance(target.part, Addresses) and _texts_left(target)):
            return  # by a migration: the rest of the table is there to be read
        yield NO_COLUMN(
            target.column(name), f"Table {target.part.name} has no column {name} ({role}).", "Check the plan."
        )
    elif types and known.base not in types:
        fix = f"It has to be {' or '.join(sorted(types.values()))}."
        kind = TIME_TYPE if role == "time" else TYPE
        if role == "time" and isinstance(target.part, InPlaceJob):
            fix += f" {TIME_FORMS}"
        elif role == "time":
            fix += ' Name another column in the plan, or none (time = "").'
        elif types is RAW and known.base == NETWORKS:
            fix += " A cidr holds networks, and a job takes hosts."
        yield kind(target.column(name), f"Column {target.part.name}.{name} ({role}) is {known.type}.", fix)


def _texts_left(target: Target) -> bool:
    """Whether a raw text is still there that was to be compared with its address, which goes after it.

    Texts that become no links can be judged without one.
    """
    statement = """
        select exists (select from pg_attribute as a join pg_class as c on c.oid = a.attrelid
                         join pg_namespace as n on n.oid = c.relnamespace
                        where n.nspname = %(schema)s and c.relname = %(name)s and a.attname = %(raw)s and not a.attisdropped)
    """
    return any(
        target.ask(statement, schema=job.schema_, name=job.table, raw=job.raw)[0][0]
        for job in target.plan.link_jobs
    )


def _hash_length(target: Target, part: Table, name: str) -> Iterator[Finding]:
    known = target.columns.get(name)
    if known and known.base in ("varchar", "bpchar") and 0 <= known.typmod - TYPMOD_EXTRA < HASH_DIGITS:
        yield HASH_LENGTH(
            target.column(name),
            f"Column {part.name}.{name} is {known.type}, and a hash has {HASH_DIGITS} digits.",
            f"alter table {part.name} alter column {name} type text;",
        )


def _what_an_insert_needs(target: Target, part: Addresses) -> Iterator[Finding]:
    place = target.columns.get(part.geo)
    if place and place.not_null:
        yield REQUIRED(
            target.column(part.geo),
            f"Column {part.name}.{part.geo} (geo) is NOT NULL, and an address without a place is added with none.",
            f"alter table {part.name} alter column {part.geo} drop not null;",
        )
    for column in target.columns.values():
        if column.name == part.geo or column.has_default or column.identity or column.generated:
            continue
        if column.name == part.key:
            yield KEY_DEFAULT(
                target.column(column.name),
                f"Column {part.name}.{column.name} (key) has no default, and new addresses get their key from it.",
                f"alter table {part.name} alter column {column.name} set default …;",
            )
        elif column.not_null and column.name not in (part.address, part.hash):
            yield REQUIRED(
                target.column(column.name),
                f"Column {part.name}.{column.name} is NOT NULL and has no default: no address could be added.",
                f"alter table {part.name} alter column {column.name} set default …;",
            )


# Integers of different widths, and texts, are compared and assigned as they are.
LINK_AND_KEY = """
    select format_type(key.atttypid, key.atttypmod),
           key.atttypid = link.atttypid
           or key_type.typcategory = link_type.typcategory and key_type.typcategory in ('N', 'S')
      from pg_attribute as key
      join pg_class as c on c.oid = key.attrelid
      join pg_namespace as n on n.oid = c.relnamespace
      join pg_attribute as link on link.attrelid = %(table)s and link.attname = %(link)s
      join pg_type as key_type on key_type.oid = key.atttypid
      join pg_type as link_type on link_type.oid = link.atttypid
     where n.nspname = %(schema)s and c.relname = %(name)s and key.attname = %(key)s
       and not key.attisdropped and not link.attisdropped
"""


def _link_type(target: Target, job: LinkJob) -> Iterator[Finding]:
    addresses = target.plan.addresses
    found = target.ask(
        LINK_AND_KEY, link=job.link, schema=addresses.schema_, name=addresses.table, key=addresses.key
    )
    for type_, fits in found:
        if not fits:
            yield LINK_TYPE(
                target.column(job.link),
                f"Column {job.name}.{job.link} (link) is {target.columns[job.link].type}, "
                f"and {addresses.name}.{addresses.key} is {type_}.",
                f"alter table {job.name} alter column {job.link} type {type_} using …;",
            )


def _written(target: Target) -> Iterator[Finding]:
    for name in target.written:
        column = target.columns.get(name)
        if column is None:
            continue
        if column.generated:
            yield GENERATED(
                target.column(name),
                f"Column {target.part.name}.{name} is generated, so nobody can write it.",
                f"alter table {target.part.name} alter column {name} drop expression; or name another column in the plan.",
            )
        tried = (
            isinstance(target.part, InPlaceJob | IntoJob) and name == target.result
        )  # ``raw_expressions`` does
        if column.checked and not tried:
            yield DOMAIN(
                target.column(name),
                f"Column {target.part.name}.{name} is of domain {column.type}, whose CHECK may refuse what is written.",
                "Look at the CHECK; then accept it.",
            )

"""What a row needs, as SQL: the one place where NULL, JSON null and non-objects are told apart."""

from psycopg2 import sql

from backfill.plan import Job

NOTHING = sql.SQL("false")


def lacks_geo(job: Job, alias: str = "event") -> sql.Composable:
    """The row's JSON can take a ``geoip_info`` and has none.

    SQL NULL and JSON ``null`` count as ``{}``; any other non-object is left alone; an existing
    ``geoip_info`` wins, unless it is JSON ``null``, which shows a user nothing.
    """
    if job.extra is None:
        return NOTHING
    # In this order: a row that has its geo, which after a run is nearly every row, costs one look.
    return sql.SQL("""(
        coalesce({extra} -> 'geoip_info', 'null'::jsonb) = 'null'::jsonb
        and ({extra} is null or {extra} = 'null'::jsonb or jsonb_typeof({extra}) = 'object')
    )""").format(extra=sql.Identifier(alias, job.extra))


def unlinked(job: Job, alias: str = "event") -> sql.Composed:
    """The row holds a text and no link."""
    return sql.SQL("({raw} is not null and {link} is null)").format(
        raw=sql.Identifier(alias, job.raw), link=sql.Identifier(alias, job.link)
    )

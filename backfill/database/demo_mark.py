"""The mark by which a database is known as the demo's: nothing lives there, so nothing has to be waited for."""

from sqlalchemy import Connection, text

DEMO_MARK = "made by backfill demo"  # how the comment on ip_addresses begins


def is_demo(connection: Connection) -> bool:
    """Whether ``backfill demo`` made this database."""
    query = text("select obj_description(to_regclass('public.ip_addresses'), 'pg_class')")
    return str(connection.execute(query).scalar() or "").startswith(f"{DEMO_MARK}:")

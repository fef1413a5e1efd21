"""Dependents: what goes with the raw column when it is dropped, and what will keep it from being dropped."""

from collections.abc import Iterator

from psycopg2 import sql

from backfill.database.connection import rows
from backfill.database.dependents import DEPENDENTS, NAMERS
from backfill.database.preflight.finding import Finding, blocks, changes
from backfill.database.preflight.target import Purpose, Target
from backfill.plan import Addresses, InPlaceJob

GOES_ALONG = changes("dropped-along")
KEEPS = blocks("keeps-column")
NAMED = changes("trigger-names-column")

OWN_KEY = """
    select from pg_index as i join pg_class as c on c.oid = i.indexrelid
     where i.indrelid = %(table)s and c.relname = %(name)s and i.indisunique and i.indnkeyatts = 1
       and i.indkey[0] = %(raw)s
"""


def check(target: Target) -> Iterator[Finding]:
    """Found while nothing is guarded yet, rather than at the last step."""
    if target.purpose not in (Purpose.PLAN, Purpose.COPY) or not target.raw_number:
        return
    part, raw = target.part, target.raw
    if isinstance(part, InPlaceJob) or (target.purpose is Purpose.COPY and isinstance(part, Addresses)):
        return
    names: dict[str, sql.Composable] = {
        "table": sql.Literal(target.relation.oid),
        "column": sql.Literal(raw),
        "ledger": sql.Literal(target.ledger_schema),
    }
    for what, name in sorted(rows(target.connection, sql.SQL(NAMERS).format(**names))):
        yield NAMED(
            target.column(name),
            f"{what[0].upper()}{what[1:]} {raw}: once {part.name}.{raw} is dropped, statements that fire it fail.",
            "Change the function, or drop the trigger, before the column goes; accept it where it only mentions the name.",
        )
    for what, name, goes in sorted(rows(target.connection, sql.SQL(DEPENDENTS).format(**names))):
        if goes and not (isinstance(part, Addresses) and _is_its_own_key(target, name)):
            yield GOES_ALONG(
                target.column(name),
                f"The drop of {part.name}.{raw} takes {what} along.",
                "Make another that does without the column, where one is needed; then accept it.",
            )
        elif not goes and target.purpose is Purpose.PLAN:
            yield KEEPS(
                target.column(name),
                f"{what[0].upper()}{what[1:]} keeps {part.name}.{raw} from being dropped.",
                "Change it, or drop it, so that it does without the column.",
            )


def _is_its_own_key(target: Target, name: str) -> bool:
    """The unique index over the address alone, which this schema has to have until the address goes."""
    return bool(target.ask(OWN_KEY, name=name))

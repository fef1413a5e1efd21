"""In pass: which rows of a range a pass takes, as SQL."""

from psycopg2 import sql

from backfill.jobs.passes import Pass

# Rows are spread over the passes by where they lie. The last pass takes whatever is left, so that
# a row that live traffic moved between two passes is not missed. Two inequalities say "equal": the
# planner takes a third of the rows for each, a ninth together, which is about right for shares of four
# and eight; for "= {number}" on an expression it would take one row in 200.
IN_PASS = sql.SQL("""
    (pg_catalog.hashtid(event.ctid) OPERATOR(pg_catalog.&) {mask}) OPERATOR(pg_catalog.<=) {number}
    and (OPERATOR(pg_catalog.-) (pg_catalog.hashtid(event.ctid) OPERATOR(pg_catalog.&) {mask}))
        OPERATOR(pg_catalog.<=) {minus}
""")


def in_pass(now: Pass) -> sql.Composable:
    """The row (``event``) is one of the pass's."""
    if now.last:
        return sql.SQL("true")
    return IN_PASS.format(
        mask=sql.Literal(now.shares - 1), number=sql.Literal(now.share), minus=sql.Literal(-now.share)
    )

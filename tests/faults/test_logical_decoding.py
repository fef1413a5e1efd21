"""Logical decoding of the old row: a slot receives it whatever is published, where the replica identity holds it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from backfill.database.connection import make_engine
from backfill.database.preflight import checks
from backfill.database.preflight.target import Purpose
from backfill.plan import Plan
from tests.databases import query
from tests.faults.cluster import Cluster

PLAN = Plan.model_validate(
    {"name": "logins", "jobs": [{"table": "logins", "raw": "ip", "becomes": "hash", "unreadable": "keep"}]}
)


@pytest.fixture
def url() -> Iterator[str]:
    """A server that decodes, and a table on it."""
    cluster = Cluster("logical").init()
    try:
        cluster.start(wal_level="logical")
        query(cluster.url(), "create table logins (id int primary key, ip text not null)")
        yield cluster.url()
    finally:
        cluster.remove()


@pytest.mark.slow
def test_a_logical_slot_gets_the_old_row_without_any_publication(url: str) -> None:
    def found() -> list[str]:
        engine = make_engine(make_url(url), ledger_schema="backfill")
        with engine.connect() as connection:
            report = checks.inspect(connection, PLAN, PLAN.parts, "backfill", Purpose.WRITE)
        engine.dispose()
        assert not report.blocking
        return [one.name for one in report.unaccepted]

    query(url, "alter table logins replica identity full")
    assert found() == []  # nobody decodes
    query(url, "select pg_create_logical_replication_slot('audit', 'pgoutput')")
    assert found() == ["old-row-published:public.logins"]
    query(url, "alter table logins replica identity default")
    assert found() == []

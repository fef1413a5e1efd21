"""All link batches done by a role that has what docs/operations.md grants the workers, and nothing else."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, make_url

from backfill.database.connection import make_engine
from backfill.engine.driver import Driver
from backfill.jobs import apply
from backfill.ledger.batches import PassCounts
from backfill.ledger.phases import LINK, Phase
from tests.databases import query
from tests.integration.test_link import insert, linked
from tests.operator import Operator
from tests.worker_role import make_worker


@pytest.fixture
def worker(fresh_demo: Operator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The session of that role, in which the driver's workers do their batches."""
    url, role = fresh_demo.url, f"worker_{os.getpid()}_{time.monotonic_ns()}"
    fresh_demo.migrates("0001_expand")
    make_worker(lambda statement: query(url, statement), role)
    engine = make_engine(make_url(url).set(username=role), ledger_schema="backfill")
    process = apply.process

    def as_worker(_: Engine, *words: Any) -> PassCounts:
        return process(engine, *words)

    monkeypatch.setattr(apply, "process", as_worker)
    yield engine
    engine.dispose()
    query(url, f"drop owned by {role}")
    query(url, f"drop role {role}")


@pytest.mark.parametrize("passes", [1, 8])
def test_address_rows_that_are_deleted_under_the_workers_are_made_anew(
    fresh_demo: Operator, worker: Engine, monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    """The worker cannot write the map, so it hands the batch back, and the driver does it."""
    url = fresh_demo.url
    event = insert(url, "203.0.113.79")
    work = Driver._link
    deleted = []

    def deleting(driver: Driver, phase: Phase, number: int) -> int:
        if not deleted:
            query(url, "delete from ip_addresses where ip_address = '203.0.113.79'")
            deleted.append(phase)
        return work(driver, phase, number)

    monkeypatch.setattr(Driver, "_link", deleting)
    fresh_demo.having(passes=str(passes)).types("run", "--quiet")
    assert deleted == [LINK]
    assert linked(url, event)[0] == "203.0.113.79"
    assert query(url, "select status, attempts from backfill.runs") == [("succeeded", 1)]
    fresh_demo.settles_everything()
    fresh_demo.types("verify")


def test_a_foreign_key_of_others_fails_its_batch_and_is_named(fresh_demo: Operator, worker: Engine) -> None:
    """No new map would help, so it is not begun again."""
    url = fresh_demo.url
    event = insert(url, "203.0.113.79")
    query(
        url,
        """create function public.refers() returns trigger language plpgsql as $$ begin
             raise exception 'elsewhere' using errcode = 'foreign_key_violation'; end $$;
           create trigger refers after update on user_events for each row when (new.tag = 'test')
             execute function public.refers()""",
    )
    said = fresh_demo.types("run", "--quiet", "--accept", "after-trigger:public.user_events.refers", expect=1)
    assert "23503" in said.err
    assert linked(url, event)[0] is None

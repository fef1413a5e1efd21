"""All link batches done by a role that has what docs/operations.md grants the workers, and nothing else."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import make_url

from backfill.engine.pool import Pool, local
from backfill.engine.worker import WorkerConfig
from backfill.ledger.phases import LINK, Phase, Work
from tests.databases import query
from tests.integration.test_link import insert, linked
from tests.operator import Operator
from tests.worker_role import make_worker


@pytest.fixture
def with_role(fresh_demo: Operator) -> Iterator[Operator]:
    """The operator whose runs have workers of that role."""
    url, role = fresh_demo.url, f"worker_{os.getpid()}_{time.monotonic_ns()}"
    fresh_demo.migrates("0001_expand")
    make_worker(lambda statement: query(url, statement), role)
    theirs = make_url(url).set(username=role).render_as_string(hide_password=False)

    def pool(config: WorkerConfig, *words: Any) -> AbstractContextManager[Pool]:
        return local(replace(config, url=theirs), *words)

    yield replace(fresh_demo, pool=pool)
    query(url, f"drop owned by {role}")
    query(url, f"drop role {role}")


@pytest.mark.parametrize("passes", [1, 8])
def test_address_rows_that_are_deleted_under_the_workers_are_made_anew(
    with_role: Operator, passes: int
) -> None:
    """The worker cannot write the map, so it hands the batch back, and the driver does it."""
    url = with_role.url
    event = insert(url, "203.0.113.79")
    deleted = []

    def deleting(phase: Phase) -> None:
        if phase.work is Work.LINK and not deleted:
            query(url, "delete from ip_addresses where ip_address = '203.0.113.79'")
            deleted.append(phase)

    with_role.having(passes=str(passes)).hooked(before_phase=deleting).types("run", "--quiet")
    assert deleted == [LINK]
    assert linked(url, event)[0] == "203.0.113.79"
    assert query(url, "select status, attempts from backfill.runs") == [("succeeded", 1)]
    with_role.settles_everything()
    with_role.types("verify")


def test_a_foreign_key_of_others_fails_its_batch_and_is_named(with_role: Operator) -> None:
    """No new map would help, so it is not begun again."""
    url = with_role.url
    event = insert(url, "203.0.113.79")
    query(
        url,
        """create function public.refers() returns trigger language plpgsql as $$ begin
             raise exception 'elsewhere' using errcode = 'foreign_key_violation'; end $$;
           create trigger refers after update on user_events for each row when (new.tag = 'test')
             execute function public.refers()""",
    )
    said = with_role.types("run", "--quiet", "--accept", "after-trigger:public.user_events.refers", expect=1)
    assert "23503" in said.err
    assert linked(url, event)[0] is None

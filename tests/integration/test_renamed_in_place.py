"""A column in place that was renamed, swapped with another or replaced: rewritten once, and by consent to this column."""

from pathlib import Path

import pytest

from backfill.ledger.batches import Batch
from backfill.ledger.phases import LINK
from tests import rewritten
from tests.databases import query
from tests.operator import Operator

TEXTS = ("81.2.3.4", "2a00::7", "8.8.8.8")
SWAPPED = "alter table logins rename ip to x; alter table logins rename ip2 to ip; alter table logins rename x to ip2"
REPLACED = """
    create table public.fresh (like public.logins including all);
    insert into public.fresh (ip) values ('1.2.3.4'), ('5.6.7.8'), ('5.6.7.9');
    alter table public.logins rename to past;
    alter table public.fresh rename to logins;
"""


def job(becomes: str, raw: str = "ip", table: str = "logins") -> dict[str, str]:
    return {"table": table, "raw": raw, "becomes": becomes, "unreadable": "keep"}


@pytest.fixture
def url(database: str) -> str:
    rewritten.table(database, "logins", "text", TEXTS)
    query(database, "alter table logins add ip2 text")
    query(database, "update logins set ip2 = ip")
    return database


def run(url: str, home: Path, folder: Path, *jobs: dict[str, str]) -> Operator:
    made = rewritten.operator(url, home, rewritten.plan_file(folder, *jobs))
    rewritten.run(made, "--quiet")
    made.types("verify")
    return made


def values(url: str, table: str = "logins") -> list[tuple]:
    return query(url, f"select * from public.{table} order by id")


@pytest.mark.parametrize(
    ("was", "now", "rename", "raw", "table"),
    [
        ("network", "pseudonym", "alter table logins rename ip to addr", "addr", "logins"),
        ("pseudonym", "hash", "alter table logins rename to entries", "ip", "entries"),
        ("hash", "network", "create schema other; alter table logins set schema other", "ip", "logins"),
    ],
)
def test_a_result_is_not_transformed_again_under_another_name(
    url, home, tmp_path, was, now, rename, raw, table
):
    run(url, home, tmp_path, job(was))
    query(url, rename)
    other = {"schema": "other"} if "schema" in rename else {}
    made = rewritten.operator(url, home, rewritten.plan_file(tmp_path, job(now, raw, table) | other))
    for words in (("plan", "--no-sample"), ("run", "--quiet")):
        said = made.types(*words, expect=2)
        assert "(then called public.logins.ip)" in said.out + said.err
        assert "restore point monday" in said.out + said.err
    # The same kind goes on, once it is confirmed for that name: its own results stay.
    rewritten.plan_file(tmp_path, job(was, raw, table) | other)
    assert "--rewrite 0" in made.types("run", "--quiet", expect=2).err


def test_consent_is_to_a_column_and_not_to_a_name(url, home, tmp_path):
    made = run(url, home, tmp_path, job("network"), job("pseudonym", "ip2"))
    query(url, SWAPPED)
    before = values(url)
    said = made.types("run", "--quiet", expect=2).err
    assert "would be taken for some" in said
    assert values(url) == before
    # What the application did not swap back, the plan may: nothing is left to do.
    rewritten.plan_file(tmp_path, job("pseudonym"), job("network", "ip2"))
    assert "--rewrite 0" in made.types("run", "--quiet", expect=2).err


def test_a_table_that_took_the_place_of_another_is_asked_about_and_proved_anew(url, home, tmp_path):
    made = run(url, home, tmp_path, job("network"))
    assert "done " in made.types("gates").out
    query(url, REPLACED)
    before = values(url)
    said = made.types("gates", expect=1).out
    assert "table or column was replaced or renamed after the last verification" in said
    assert "replaced or renamed" in made.types("report", expect=2).err
    # A number that was counted in the table before is none of this one.
    asked = made.types("run", "--quiet", "--restore-point", "monday", "--rewrite", 6, expect=2).err
    assert "--rewrite 3" in asked
    assert values(url) == before
    made.types("run", "--quiet", "--restore-point", "monday", "--rewrite", 3)
    made.types("verify")
    made.types("report")


def test_a_batch_asks_for_consent_to_the_column_that_it_writes(url, home, tmp_path):
    made = run(url, home, tmp_path, job("network"), job("pseudonym", "ip2"))
    query(url, "insert into logins (ip, ip2) values ('9.9.9.9', '9.9.9.9')")
    before = values(url)
    changes = [SWAPPED]

    def swapped(batch: Batch) -> None:
        if batch.phase == LINK and changes:
            query(url, changes.pop())

    made.hooked(before_batch=swapped).types("run", "--quiet", "--workers", 1, expect=1)
    assert not changes
    assert values(url) == before

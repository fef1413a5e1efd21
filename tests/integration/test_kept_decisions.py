"""A trigger keeps rows from changing: what was decided about them is not entered, and the trigger is named."""

import pytest

from tests.databases import query
from tests.integration.test_damage import link_elsewhere, some
from tests.operator import Operator

SKIPS = ("before", "return null;")
UNDOES = (
    "before",
    "new.ip_address_id := old.ip_address_id; new.ip_address_string := old.ip_address_string; return new;",
)
PUTS_BACK = (
    "after",
    """if pg_trigger_depth() = 1 then
         update public.user_events set ip_address_id = old.ip_address_id, ip_address_string = old.ip_address_string
          where id = new.id; end if; return null;""",
)
DELETES = ("after", "delete from public.user_events where id = new.id; return null;")
WAYS = [SKIPS, UNDOES, PUTS_BACK]


def keeps(operator: Operator, when: str, body: str, key: str) -> None:
    """One row among many is kept, by a trigger that was accepted."""
    query(
        operator.url,
        f"""create function public.keeps() returns trigger language plpgsql as $$ begin {body} end $$;
            create trigger keeps {when} update on user_events for each row when (old.id = '{key}')
              execute function public.keeps();
            create trigger elsewhere before update of tag on user_events for each row execute function public.keeps()""",
    )
    operator.types("run", "--quiet", "--accept", f"{when}-trigger:public.user_events.keeps")


def decided(url: str) -> list[tuple]:
    return query(url, "select kind, count from backfill.decisions where kind in ('settle', 'repair')")


@pytest.mark.parametrize("fate", ["sentinel", "discard"])
@pytest.mark.parametrize(("when", "body"), [*WAYS, DELETES])
def test_settle_changes_and_decides_all_or_nothing(
    finished_run: Operator, fate: str, when: str, body: str
) -> None:
    url = finished_run.url
    keys = sorted(finished_run.waiting("user_events"))
    rows = "select id, ip_address_id, ip_address_string from user_events order by id"
    before = query(url, rows)
    keeps(finished_run, when, body, keys[0])
    words = ("quarantine", "settle", "user_events", "--as", fate, "--count", len(keys))
    said = finished_run.types(*words, expect=2).err
    assert f"1 of {len(keys)} rows did not keep what was written" in said
    assert f"(the first by key: {keys[0]})" in said
    assert "Triggers that fire there: keeps. " in said
    assert query(url, rows) == before
    assert decided(url) == []
    assert sorted(finished_run.waiting("user_events")) == keys
    query(url, "alter table user_events disable trigger keeps")
    finished_run.types(*words)
    assert decided(url) == [("settle", len(keys))]


@pytest.mark.parametrize(("when", "body"), WAYS)
def test_repair_of_links_likewise(proved_run: Operator, when: str, body: str) -> None:
    url = proved_run.url
    keys = some(proved_run, 3)
    link_elsewhere(proved_run, keys)
    before = decided(url)
    keeps(proved_run, when, body, keys[0])
    words = ("repair", "user_events", "--kind", "link", "--count")
    said = proved_run.types(*words, 3, expect=2).err
    assert "1 of 3 rows did not keep what was written to ip_address_id" in said
    assert "Triggers that fire there: keeps. " in said
    assert decided(url) == before
    query(url, "alter table user_events disable trigger keeps")
    proved_run.types(*words, 3)
    assert decided(url) == [*before, ("repair", 3)]

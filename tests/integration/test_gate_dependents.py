"""What goes with a raw column, and what keeps it: asked by every gate before anything is guarded."""

import pytest

from tests.databases import query
from tests.operator import Operator

GUARDED = "select from pg_trigger where tgname like 'zz_backfill_guard%'"
HAS_RAW = (
    "select from pg_attribute where attrelid = 'user_events'::regclass and attname = 'ip_address_string'"
)
INDEX = "create index by_address on public.user_events (tag, ip_address_string)"


def test_a_view_is_named_before_the_guard(proved_run: Operator) -> None:
    query(proved_run.url, "create view public.who as select ip_address_string from user_events")
    proved_run.migrates("0002_journals")
    said = proved_run.is_refused("0003a_user_events")
    assert (
        "what keeps user_events.ip_address_string: view public.who; fix: change or drop what is named" in said
    )
    assert query(proved_run.url, GUARDED) == []
    query(proved_run.url, "drop view public.who")
    proved_run.migrates("0003a_user_events")


def test_an_index_that_goes_along_is_accepted_by_name(proved_run: Operator) -> None:
    query(proved_run.url, INDEX)
    proved_run.migrates("0002_journals")
    name = "dropped-along:public.user_events.by_address"
    said = proved_run.is_refused("0003a_user_events")
    assert f"what goes with user_events.ip_address_string: index by_address ({name})" in said
    assert query(proved_run.url, GUARDED) == []
    assert "by_address" in proved_run.types("gates", expect=None).out
    proved_run.types("run", "--quiet", "--accept", name)
    proved_run.types("verify")
    proved_run.migrates("0004_team_events")
    assert query(proved_run.url, HAS_RAW) == []
    assert query(proved_run.url, "select from pg_class where relname = 'by_address'") == []


def test_one_that_came_after_the_guard_keeps_the_drop_shut(proved_run: Operator) -> None:
    proved_run.migrates("0003b_team_events")
    query(proved_run.url, INDEX)
    assert "index by_address" in proved_run.is_refused("0004_user_events")
    assert query(proved_run.url, HAS_RAW) == [()]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("create index i on journals (submitted_from)", "index i"),
        ("create statistics s on name, submitted_from from journals", "statistics s"),
        ("create view public.v as select submitted_from from journals", "view public.v"),
        ("alter table journals add constraint u unique (id, submitted_from)", "constraint u (UNIQUE (id, submitted_from))"),
    ],
)  # fmt: skip
def test_a_discard_asks_it_too(proved_run: Operator, change: str, name: str) -> None:
    query(proved_run.url, change)
    assert name in proved_run.is_refused("0002_journals")
    assert query(proved_run.url, "select count(submitted_from) > 0 from journals") == [(True,)]


def test_the_address_asks_it_before_it_becomes_optional(proved_run: Operator) -> None:
    """Its own unique constraint goes with it, as everybody knows; a view does not."""
    query(proved_run.url, "create view public.known as select host(ip_address) from ip_addresses")
    proved_run.migrates("0004_team_events")
    said = proved_run.is_refused("0005a_ip_address_optional")
    assert "what keeps ip_addresses.ip_address: view public.known" in said
    assert "what goes with" not in said


def test_a_trigger_whose_function_names_the_column_is_named_before_the_guard(proved_run: Operator) -> None:
    """PostgreSQL would drop the column, and every INSERT of the application would fail from then on."""
    query(
        proved_run.url,
        """create function public.note() returns trigger language plpgsql as
               $$ begin perform pg_notify('events', coalesce(new.ip_address_string, '')); return new; end $$;
           create trigger note after insert on public.user_events for each row execute function public.note()""",
    )
    proved_run.migrates("0002_journals")
    name = "trigger-names-column:public.user_events.note"
    assert name in proved_run.types("plan", "--no-sample", expect=2).out
    assert f"function public.note names the column ({name})" in proved_run.is_refused("0003a_user_events")
    assert query(proved_run.url, GUARDED) == []
    query(
        proved_run.url,
        "create or replace function public.note() returns trigger language plpgsql as 'begin return new; end'",
    )
    proved_run.migrates("0003a_user_events")

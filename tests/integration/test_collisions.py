"""Rows that would meet in a unique key: said before the first write, with a way out that works."""

from tests.databases import query
from tests.operator import Operator

KEY = "create unique index once on public.team_events (source_id, tag, ip_address_id)"
ROW = """insert into public.team_events (source_id, tag, ip_address_string)
         select source_id, 'a login', %s from public.team_events order by id limit 1 returning id::text"""


def test_a_run_names_them_first_and_ends_well_without_them(fresh_demo: Operator) -> None:
    query(fresh_demo.url, "update public.team_events set tag = tag || id")
    query(fresh_demo.url, KEY)
    made = [query(fresh_demo.url, ROW, text)[0][0] for text in ("198.51.100.7", "::ffff:198.51.100.7")]
    said = fresh_demo.types("run", "--quiet", expect=2)
    assert (
        "Unique key once of public.team_events has ip_address_id in it, and 1 row would be linked" in said.err
    )
    named = next(key for key in made if f"row {key}." in said.err)
    assert "198.51.100.7" not in said.err
    query(fresh_demo.url, "delete from public.team_events where id = %s", named)
    fresh_demo.types("run", "--quiet")
    assert query(fresh_demo.url, "select count(*) from public.team_events where tag = 'a login' and ip_address_id is not null") == [(1,)]  # fmt: skip


def test_a_merge_names_those_of_a_table_outside_the_plan(fresh_demo: Operator) -> None:
    query(
        fresh_demo.url,
        """insert into public.ip_addresses (ip_address) values ('198.51.100.9'), ('::ffff:198.51.100.9');
           create table public.logins (who int, a uuid references public.ip_addresses, unique (who, a));
           insert into public.logins select 1, id from public.ip_addresses where host(ip_address) like '%198.51.100.9'""",
    )
    fresh_demo.types("run", "--quiet")
    twins = len(fresh_demo.waiting("ip_addresses"))
    said = fresh_demo.types("addresses", "merge", "--count", twins, expect=2)
    assert "Unique key logins_who_a_key of public.logins has a in it, and 1 row would be linked" in said.err
    assert len(fresh_demo.waiting("ip_addresses")) == twins
    query(fresh_demo.url, "delete from public.logins where ctid = (select max(ctid) from public.logins)")
    fresh_demo.types("addresses", "merge", "--count", twins)

"""Places: keys belong to the plan, an object that says nothing is none, and verify does not trust the writer."""

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from backfill.jobs import link
from tests.databases import query
from tests.demo_template import GeoByHand
from tests.integration.test_link import LOCATED, add_address, insert, linked
from tests.operator import Operator

EIGHT = """
name = "eight"
{more}
[geo]
keys = ["city", "continent_code", "country_code3", "country_code", "country_name", "region", "latitude", "longitude"]
[addresses]
table = "ip_addresses"
[[jobs]]
table = "user_events"
"""
EMPTY = [{}, {"city": "?"}, {"city": "", "region": None}, None]


@pytest.fixture
def planned(fresh_demo: Operator, tmp_path: Path):
    def having(more: str = "") -> Operator:
        path = tmp_path / "plan.toml"
        path.write_text(EIGHT.format(more=more))
        return fresh_demo.having(plan=str(path))

    return having


def test_a_key_that_no_live_row_carries_blocks_plan_and_run(planned) -> None:
    operator = planned()
    for command in ("plan", "run"):
        said = str(operator.types(command, expect=2))
        assert "The plan writes the geo key latitude, which no live row carries" in said
        assert "ip_addresses (all rows), user_events (all rows)" in said


def test_an_accepted_key_is_written(planned) -> None:
    operator = planned('accept = ["new-geo-key:latitude", "new-geo-key:longitude"]')
    key = insert(operator.url, LOCATED)
    operator.types("run", "--quiet")
    assert {"latitude", "longitude"} < set(linked(operator.url, key)[1]["geoip_info"])


def test_a_key_that_live_rows_carry_is_no_difference(planned) -> None:
    operator = planned()
    insert(operator.url, LOCATED, {"geoip_info": {"city": "x", "latitude": 1.5, "longitude": 2}})
    operator.types("plan", "--no-sample")


SHORTER = [EMPTY[0], EMPTY[-1], *(pytest.param(one, marks=pytest.mark.slow) for one in EMPTY[1:-1])]


@pytest.mark.parametrize("empty", SHORTER)
def test_an_object_that_says_nothing_is_no_place_in_the_address_table(
    fresh_demo: Operator, empty: Any
) -> None:
    url = fresh_demo.url
    key = add_address(url, LOCATED, None, None)
    query(url, "update ip_addresses set geoip_info = %s where id = %s", json.dumps(empty), key)
    fresh_demo.types("run", "--quiet")
    place = GeoByHand()(LOCATED)
    assert query(url, "select geoip_info from ip_addresses where id = %s", key) == [(place,)]


@pytest.mark.parametrize("empty", SHORTER)
def test_verify_counts_an_object_that_says_nothing_as_missing(settled_run: Operator, empty: Any) -> None:
    url = settled_run.url
    changed = query(
        url,
        """update user_events as e set additional = jsonb_set(e.additional, '{geoip_info}', %s) where id in (
             select e.id from user_events e join ip_addresses ip on ip.id = e.ip_address_id
              where e.ip_address_string = host(ip.ip_address) and e.additional #> '{geoip_info,country_code}' is not null limit 7)
           returning 1""",
        json.dumps(empty),
    )
    assert len(changed) == 7
    query(url, "update ip_addresses set geoip_info = %s where geoip_info is not null", json.dumps(empty))
    said = settled_run.types("verify", expect=1).out
    assert "7 rows lack the geo that their address has: `backfill run`" in said
    assert query(url, "select count(*) from ip_addresses where geoip_info -> 'country_code' is not null") == [
        (0,)
    ]
    ((geo, _absent, lost),) = query(
        url,
        """select (counts ->> 'geo')::int, (counts ->> 'geo_absent')::int, (counts ->> 'geo_removed_again')::int
             from backfill.coverage where job like 'public.ip_addresses%%' order by id desc limit 1""",
    )
    assert geo == 0
    assert lost > 0
    settled_run.types("run", "--quiet")
    assert "lack the geo" not in settled_run.types("verify", expect=None).out


@pytest.mark.parametrize(
    "broken",
    [
        "false",
        pytest.param("(event.additional is null)", marks=pytest.mark.thorough),
        pytest.param("(event.additional = '{}')", marks=pytest.mark.thorough),
    ],
)
def test_verify_goes_red_when_the_writers_idea_of_a_missing_place_is_wrong(
    fresh_demo: Operator, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Whatever the writer takes for a place: verify asks in its own words."""
    monkeypatch.setattr(link, "lacks_geo", lambda job, alias="event": sql.SQL(broken))
    fresh_demo.types("run", "--quiet")
    said = fresh_demo.types("verify", expect=1).out
    assert "rows lack the geo that their address has" in said


def test_places_of_our_own_that_all_lack_a_key_stop_no_later_command(finished_run: Operator) -> None:
    url = finished_run.url
    query(url, "update ip_addresses set geoip_info = geoip_info - 'city' where geoip_info is not null")
    for table in ("user_events", "project_events", "file_events", "organization_events", "team_events"):
        query(
            url,
            f"update {table} set additional = additional #- '{{geoip_info,city}}' where jsonb_typeof(additional) = 'object'",
        )
    assert query(url, "select count(*) >= 100 from ip_addresses where geoip_info is not null") == [(True,)]
    finished_run.types("run", "--quiet")
    assert "nothing of that name" not in finished_run.types("plan", "--no-sample").out


def test_a_name_in_the_plan_that_accepts_nothing_is_said(planned) -> None:
    said = planned('accept = ["drops-with-column:public.user_events.x"]').types(
        "plan", "--no-sample", expect=2
    )
    assert "nothing of that name was found: drops-with-column:public.user_events.x" in said.out

"""The whole demo, row by row, against a recomputation that shares nothing with the product but its input."""

from collections import Counter

import pytest

from backfill.plan import PYPI
from tests.databases import query
from tests.demo_template import (
    ALL_EVENTS,
    SENTINEL,
    TABLES,
    GeoByHand,
    live_hash,
    read_by_hand,
)
from tests.operator import Operator

ROWS = f"select name, id::text, raw, additional, link::text from ({ALL_EVENTS}) e order by 1, 2"
KNOWN = """select id::text, host(ip_address), hashed_ip_address, geoip_info, is_banned, ban_reason::text, ban_date,
                  masklen(ip_address) from ip_addresses"""


@pytest.fixture
def by_hand():
    geo = GeoByHand()
    yield geo
    geo.close()


def test_every_event_has_the_link_and_geo_that_its_text_calls_for_and_nothing_else_changed(
    fresh_demo: Operator, by_hand: GeoByHand
) -> None:
    url = fresh_demo.url
    before = query(url, ROWS)
    live = {row[0]: row for row in query(url, KNOWN)}
    fresh_demo.types("run", "--quiet")
    after = query(url, ROWS)
    known = {row[0]: row for row in query(url, KNOWN)}
    assert len(before) == len(after) == query(url, f"select count(*) from ({ALL_EVENTS}) e")[0][0]
    kinds: Counter[str] = Counter()
    for old, new in zip(before, after, strict=True):
        assert old[:3] == new[:3]  # table, id, raw
        raw, extra, link = old[2:]
        address = None if raw is None else read_by_hand(raw)
        if link is not None or address is None:
            assert new[4] == link  # the live application wins; no text, no link
        else:
            assert known[new[4]][1] == address
        place = by_hand(address) if address else None
        if raw is None and link is not None:  # no text of its own: what its address has
            place = known[link][3]
            kinds["place of its link"] += bool(place)
        expected = extra
        if place and (extra is None or isinstance(extra, dict)) and not (extra or {}).get("geoip_info"):
            expected = {**(extra or {}), "geoip_info": place}
            kinds["geo added"] += 1
        assert new[3] == expected, (old, new)
        kinds["linked by us"] += link is None and new[4] is not None
        kinds["linked by the live application"] += link is not None
        kinds["no address"] += raw is not None and address is None
        kinds["no place"] += bool(place) and isinstance(extra, list | str | int)
        if isinstance(new[3], dict) and "geoip_info" in new[3]:
            assert set(new[3]["geoip_info"]) <= set(PYPI.geo.keys)
    assert all(
        kinds[kind] for kind in ("geo added", "place of its link", "linked by us", "no address", "no place")
    ), kinds

    for key, host, digest, geo, *rest in known.values():
        if key in live:
            _, live_host, live_digest, live_geo, *live_rest = live[key]
            assert (host, rest) == (live_host, live_rest)
            assert live_digest in (None, digest)
            assert live_geo in (None, geo)
        assert digest == live_hash(host)
        assert geo == by_hand(read_by_hand(host) or "") or (key in live and live[key][3] == geo), host
    assert set(live) <= set(known)


def test_the_closing_counts_add_up_and_are_what_is_in_the_tables(finished_run: Operator) -> None:
    counts = query(
        finished_run.url,
        """select split_part(job, '.', 2), rows, linked, already_linked, no_address, quarantined, left_to_live
             from backfill.run_tables where linked is not null""",
    )
    assert {row[0] for row in counts} == set(TABLES)
    for name, rows, *parts in counts:
        assert rows == sum(parts)
        linked, already, no_address, quarantined, left = parts
        assert left == 0
        assert [(rows, no_address, linked + already, quarantined)] == query(
            finished_run.url,
            f"""select count(*), count(*) filter (where ip_address_string is null),
                       count(*) filter (where ip_address_string is not null and ip_address_id is not null),
                       count(*) filter (where ip_address_string is not null and ip_address_id is null)
                  from {name}""",
        )
    assert sum(row[2] for row in counts) > 1_000
    assert sum(row[3] for row in counts) > 100


def test_the_closing_count_tells_what_was_linked_before(fresh_demo: Operator) -> None:
    before = dict(
        query(
            fresh_demo.url,
            f"select name, count(*) from ({ALL_EVENTS}) e where raw is not null and link is not null group by 1",
        )
    )
    fresh_demo.types("run", "--quiet")
    told = dict(query(fresh_demo.url, "select split_part(job, '.', 2), already_linked from backfill.run_tables where linked is not null"))  # fmt: skip
    assert told == dict.fromkeys(TABLES, 0) | before


def test_a_second_run_writes_nothing(finished_run: Operator) -> None:
    url = finished_run.url
    place = " union all ".join(
        f"select '{name}', id::text, ctid::text, xmin::text from {name}" for name in (*TABLES, "ip_addresses")
    )
    before = query(url, f"{place} order by 1, 2")
    finished_run.types("run", "--quiet")
    assert query(url, f"{place} order by 1, 2") == before
    newest = query(
        url,
        """select run_id, sum(written) filter (where phase like '%link') from backfill.batches
            group by 1 order by 1 desc limit 1""",
    )
    assert newest[0][1] == 0


def test_what_the_journals_trigger_keeps_is_not_touched(fresh_demo: Operator) -> None:
    look = "select md5(string_agg(p::text, '|' order by id)) from projects p"
    before = query(fresh_demo.url, look), query(fresh_demo.url, "select xmin from journals limit 1")
    fresh_demo.types("run", "--quiet")
    assert before == (query(fresh_demo.url, look), query(fresh_demo.url, "select xmin from journals limit 1"))


def test_only_the_jobs_that_were_named_are_done(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    xmins = "select array_agg(xmin::text order by id) from {}"
    others = {name: query(url, xmins.format(name)) for name in TABLES if name != "team_events"}
    said = fresh_demo.types("run", "team_events", "--quiet")
    assert "user_events" not in said.out
    assert {name: query(url, xmins.format(name)) for name in others} == others
    unlinked = (
        "select count(*) from team_events where ip_address_string is not null and ip_address_id is null"
    )
    assert query(url, unlinked) == [(len(fresh_demo.waiting("team_events")),)]
    fresh_demo.types("run", "--quiet")
    fresh_demo.settles_everything()
    fresh_demo.types("verify")


def test_sentinel_rows_of_the_live_application_keep_their_link(finished_run: Operator) -> None:
    rows = query(
        finished_run.url,
        f"select raw from ({ALL_EVENTS}) e join ip_addresses ip on ip.id = link where host(ip_address) = '{SENTINEL}'",
    )
    assert rows
    assert all(read_by_hand(raw) is None for (raw,) in rows)

"""Live traffic while we work: no deadlock for good, nothing of theirs overwritten, and the run ends."""

from tests.faults.conftest import SMALL
from tests.faults.live import Live
from tests.faults.stage import in_background


def test_a_run_under_live_traffic_ends_and_overwrites_nothing(stage):
    live = Live(stage, rate=0.005)
    with in_background(live.work(1)), in_background(live.work(2)):
        said = stage.run(*SMALL, "--nice", "2")
        during = len(live.linked)
    assert during > 50
    assert live.deadlocks <= 2  # one may lose once; nobody loses for good
    assert live.collisions <= 2
    links = dict(stage.query("select id::text, ip_address_id::text from user_events where tag = 'live'"))
    assert {event: links[event] for event in live.linked} == live.linked
    wrong = stage.value(
        """select count(*) from user_events join ip_addresses as known on known.id = ip_address_id
            where tag = 'live' and host(known.ip_address) <> ip_address_string"""
    )
    assert wrong == 0
    # Their geo of an address, or its absence, is the last word; ours is only where they left a NULL afterwards.
    strange = stage.value(
        r"""select count(*) from ip_addresses where geoip_info ->> 'city' = 'Liveville' and geoip_info <> '{"city": "Liveville", "country_code": "XX"}'"""
    )
    assert strange == 0
    hashes = stage.query(
        "select host(ip_address), hashed_ip_address from ip_addresses where ip_address in"
        " (select ip_address_string::inet from user_events where tag = 'live')"
    )
    assert all(live.hash(text) == stored for text, stored in hashes)
    # It ended under constant inserts, and counted what it left.
    assert stage.value("select status from backfill.runs") == "succeeded"
    assert "left to the application" in said
    counted = stage.query(
        "select rows, linked + already_linked + no_address + quarantined + left_to_live from backfill.run_tables where linked is not null"
    )
    assert all(rows == parts for rows, parts in counted)
    left = stage.value("select count(*) from user_events where ip_address_id is null and tag = 'live'")
    stage.run(*SMALL)
    assert stage.value("select count(*) from user_events where ip_address_id is null and tag = 'live'") == 0
    assert left >= 0

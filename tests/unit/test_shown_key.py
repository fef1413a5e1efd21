"""Keys that look like addresses, as the client tells them. That the server says the same is in the integration tests."""

import pytest

from backfill.database.shown_key import looks_like_address
from backfill.plan import Plan

ADDRESSES = (
    "192.0.2.9", "8.8.8.8:80", "1.2.3.4|abc", "ann@2001:db8::7", '{"ip": "2001:db8:0:0:0:0:0:1"}', "{192.0.2.1}", "2001:db8::",
    "a\n1.2.3.4", "::ffff:1.2.3.4", "é1.2.3.4", "1.2.3.4é", "日2001:db8::1", "\\1.2.3.4", "1.2.3.4\\", "[2001:DB8::1]:443", "01.2.3.4, 1.2.3.4",
    "1:2:3:4:5:6:7:8", "0.0.0.0.", "-1.2.3.4-5",
)  # fmt: skip
OTHERS = (
    "", "7", "192.0.2", "Acme::Client, 1.2.3", '{"at": "10:11:12"}', "::", "v1.2.3.4.5", "08:00:2b:01:02:03:04:05:06", "1.2.3.256",
    "01.2.3.4", "5f8a-22", "x2001:db8::1", "a.b.c.d", "é1.2.3", "\\1.2.3", "1٫2٫3٫4", "١.2.3.4", "\\3031.2.3.4", "é.2.3.4", "é::1",
)  # fmt: skip


@pytest.mark.parametrize("key", ADDRESSES)
def test_what_looks_like_an_address_is_told(key: str) -> None:
    assert looks_like_address(key)


@pytest.mark.parametrize("key", OTHERS)
def test_what_does_not_is_none(key: str) -> None:
    assert not looks_like_address(key)


def test_a_part_knows_what_the_plan_accepts_of_its_table() -> None:
    jobs = [
        {"table": name, "raw": "ip", "becomes": "hash", "into": "hashed", "key": "device"} for name in "ab"
    ]
    plan = Plan.model_validate(
        {"name": "p", "jobs": jobs, "accept": ["addresses-among-keys:public.a.device"]}
    )
    assert [sorted(job.accepted) for job in plan.jobs] == [["addresses-among-keys:public.a.device"], []]

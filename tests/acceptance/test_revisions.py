"""Every command at every revision of the chain, with the rows that the new application writes there."""

import hashlib
import uuid
from collections.abc import Callable

import pytest

from tests.databases import query
from tests.demo_template import TABLES
from tests.operator import Operator

REVISIONS = [
    "0001_expand",
    "0003b_team_events",
    "0004_team_events",
    "0005a_ip_address_optional",
    "0005c_hash_required",
    "0005d_drop_ip_address",
]  # fmt: skip
COMMANDS = [
    ("plan", "--no-sample"), ("calibrate",), ("run", "--quiet", "--no-sample"), ("status",), ("verify",), ("gates",),
    ("report",), ("quarantine", "list"), ("addresses", "merge", "--count", 0), ("addresses", "keep", "--count", 0),
    ("repair", "ip_addresses", "--kind", "hash", "--count", 0), ("repair", "user_events", "--kind", "link", "--count", 0),
    ("repair", "user_events", "--kind", "dangling", "--count", 0),
    ("quarantine", "settle", "user_events", "--as", "sentinel", "--count", 0), ("erase", "--dry-run"), ("scan",),
    ("disclose", "ewdurbin"),
]  # fmt: skip


def has(url: str, table: str, column: str) -> bool:
    return bool(query(url, "select from information_schema.columns where table_name = %s and column_name = %s", table, column))  # fmt: skip


def new_application_writes(url: str) -> None:
    """Hashes and links, no address; what it had written before has lost its address, where that is allowed."""
    optional = not has(url, "ip_addresses", "ip_address") or query(
        url, "select from information_schema.columns where table_name = 'ip_addresses' and column_name = 'ip_address' and is_nullable = 'YES'"
    )  # fmt: skip
    key = str(uuid.uuid4())
    digest = hashlib.sha256(key.encode()).hexdigest()
    if optional:
        query(
            url,
            "insert into ip_addresses (id, hashed_ip_address, geoip_info) values (%s, %s, '{}')",
            key,
            digest,
        )
    else:
        query(url, "select id::text from ip_addresses limit 1")
        key = query(url, "select id::text from ip_addresses where hashed_ip_address is not null limit 1")[0][
            0
        ]
    for table in TABLES:
        query(
            url,
            f"""insert into {table} (id, source_id, tag, additional, ip_address_id)
                select gen_random_uuid(), source_id, 'new', '{{"geoip_info": {{}}}}', %s from {table} limit 1""",
            key,
        )


# Under the guard, where the address may be missing, and at the end; the others are like one of these.
QUICK = {"0003b_team_events", "0005a_ip_address_optional", "0005d_drop_ip_address"}


@pytest.mark.parametrize(
    "revision", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in REVISIONS]
)
def test_every_command_has_an_answer_at_every_revision(
    operator_of: Callable[[str], Operator], revision: str
) -> None:
    operator = operator_of("proved")
    operator.migrates(revision)
    new_application_writes(operator.url)
    for words in COMMANDS:
        said = operator.types(*words, expect=None)  # raises what is no error of ours
        assert said.code in (0, 1, 2, 3), words
        assert "Traceback" not in said.out + said.err
        assert "answered with an error" not in said.err, (words, said)
    # What was proved stays proved, and what the new application wrote is no shortfall.
    said = operator.types("verify", expect=None)
    assert said.code == 0, said.out

"""Columns of the plan that were renamed or dropped: a line that names them, before anything is written; never the server's word alone."""

import re
from collections.abc import Callable

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from tests.databases import query
from tests.operator import ROOT, Operator

COLUMNS = {
    "link": ("user_events", "ip_address_id"),
    "time": ("user_events", "time"),
    "key": ("user_events", "id"),
    "raw": ("user_events", "ip_address_string"),
    "extra": ("user_events", "additional"),
    "hash": ("ip_addresses", "hashed_ip_address"),
    "geo": ("ip_addresses", "geoip_info"),
    "address": ("ip_addresses", "ip_address"),
    "address key": ("ip_addresses", "id"),
    "ban": ("ip_addresses", "is_banned"),
}
COMMANDS = (
    ("plan",), ("calibrate",), ("run", "--quiet"), ("status",), ("quarantine", "list"),
    ("quarantine", "settle", "user_events", "--as", "sentinel", "--count", "1"),
    ("quarantine", "settle", "user_events", "--as", "discard", "--count", "1"),
    ("addresses", "merge", "--count", "1"), ("addresses", "keep", "--count", "1"),
    ("repair", "user_events", "--kind", "link", "--count", "1"), ("repair", "user_events", "--kind", "dangling", "--count", "1"),
    ("repair", "ip_addresses", "--kind", "hash", "--count", "1"), ("verify",), ("gates",), ("report",), ("seal", "user_events"),
    ("unseal", "user_events"), ("erase", "--dry-run"), ("prove", "--depth", "catalog"), ("run", "--strategy", "shadow", "--quiet"),
    ("cutover", "user_events"), ("run", "--abandon"),
)  # fmt: skip


@pytest.mark.parametrize("role", COLUMNS)
def test_no_command_ends_in_the_server_s_word(finished_run: Operator, role: str) -> None:
    table, column = COLUMNS[role]
    query(finished_run.url, f"alter table {table} rename column {column} to renamed")
    for words in COMMANDS:
        said = finished_run.types(*words, expect=None)
        text = said.out + said.err
        assert "42703" not in text, (words, text)
        assert "The database answered with an error" not in text, (words, text)


NAMED = r"{table}\.{column}|Table {table} has no column {column}"


TABLES_FIRST = ("0003a_user_events", "0003b_user_events", "0004_user_events")
ADDRESSES_LAST = ("0005a_ip_address_optional", "0005b_propose_hash_required", "0005c_hash_required", "0005d_drop_ip_address")  # fmt: skip
QUICK = {"0003b_user_events", "0005d_drop_ip_address"}  # each column at these, one column at each


@pytest.mark.parametrize(
    ("role", "revision"),
    [
        pytest.param(role, revision, marks=() if revision in QUICK or role == one else pytest.mark.slow)
        for roles, revisions, one in (
            (("link", "time", "key", "hash", "address", "address key", "raw"), TABLES_FIRST, "raw"),
            (("hash", "address", "address key"), ADDRESSES_LAST, "address"),
        )
        for role in roles
        for revision in revisions
    ],
)
def test_each_revision_names_the_column_that_it_misses(
    operator_of: Callable[[str], Operator], role: str, revision: str
) -> None:
    table, column = COLUMNS[role]
    operator = operator_of(f"proved, at {version_before(revision)}")
    query(operator.url, f"alter table {table} rename column {column} to renamed")
    if (role, revision) in UNTOUCHED:
        operator.migrates(revision)
        return
    with pytest.raises(CommandError) as refusal:
        operator.migrates(revision)
    said = str(refusal.value)
    assert "The database answered with an error" not in said
    assert re.search(NAMED.format(table=table, column=column), said), said


def version_before(revision: str) -> str:
    found = ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini"))).get_revision(revision)
    assert isinstance(found.down_revision, str)
    return found.down_revision


# What does not look at that column at all.
UNTOUCHED = {
    ("address", "0005c_hash_required"),
    ("address key", "0005c_hash_required"),
    *(("key", revision) for revision in TABLES_FIRST),  # which another column is now
}

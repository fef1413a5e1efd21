"""Remedies have one convention: without ``--count`` they show what they would do, with the count shown they do it."""

import json
import re

import pytest

from tests.databases import query
from tests.demo_template import TABLES, canonical_dump
from tests.integration.test_damage import link_elsewhere, some
from tests.operator import Operator

SHOWN = (
    ["quarantine", "settle"],
    ["quarantine", "settle", "user_events"],
    ["quarantine", "settle", "--all-tables"],
    ["addresses", "merge"],
    ["addresses", "keep"],
    ["repair"],
    ["repair", "user_events"],
    ["repair", "ip_addresses", "--kind", "hash"],
    ["repair", "--all-tables", "--kind", "link"],
)
UNCLEAR = (
    (["quarantine", "settle", "--count", "3", "--as", "sentinel"], "--all-tables"),
    (["quarantine", "settle", "user_events", "--all-tables"], "exclude"),
    (["quarantine", "settle", "--all-tables", "--count", "3"], "--as"),
    (["repair", "--count", "3", "--kind", "link"], "--all-tables"),
    (["repair", "user_events", "--all-tables"], "exclude"),
    (["repair", "--all-tables", "--count", "3"], "--kind"),
)


def test_what_is_shown_is_what_is_done_for_one_table_and_for_all(finished_run: Operator) -> None:
    operator, url = finished_run, finished_run.url
    before = canonical_dump(url)
    for words in SHOWN:
        assert "nothing was changed" in operator.types(*words).out, words
    for words, said in UNCLEAR:
        with pytest.raises(Exception, match=said):
            operator.types(*words)
    total = sum(len(operator.waiting(table)) for table in TABLES)
    everywhere = f"--all-tables --as sentinel --count {total}`"
    assert f"{everywhere} (or `--as discard`)" in operator.types("quarantine", "settle").out
    # One table that takes no NULL: what the others could do is not offered for all.
    waits = next(table for table in TABLES if operator.waiting(table))
    query(
        url,
        f"""do $$ begin execute format('alter table {waits} add constraint present check (ip_address_string is not null or id = any (%L))',
                (select array_agg(id) from {waits} where ip_address_string is null)); end $$""",
    )
    shown = operator.types("quarantine", "settle").out
    assert everywhere in shown
    assert f"{everywhere} (or" not in shown
    assert "(or `--as discard`)" in shown
    refused = operator.types(
        "quarantine", "settle", "--all-tables", "--as", "discard", "--count", total, expect=2
    )
    assert f"{waits}.ip_address_string" in refused.err
    query(url, f"alter table {waits} drop constraint present")
    refused = operator.types(
        "quarantine", "settle", "--all-tables", "--as", "sentinel", "--count", total - 1, expect=2
    )
    assert f"the count found is {total}" in refused.err
    assert canonical_dump(url) == before
    assert query(url, "select count(*) from backfill.decisions") == [(0,)]

    told = json.loads(operator.types("quarantine", "settle", "--format", "json").out)
    assert (told["count"], told["ok"]) == (total, True)
    operator.types("quarantine", "settle", "--all-tables", "--as", "sentinel", "--count", total)
    assert not any(operator.waiting(table) for table in TABLES)
    (merging,) = re.findall(
        r"`backfill (addresses merge --count \d+)`", operator.types("addresses", "merge").out
    )
    operator.types(*merging.split())
    assert "No duplicate" in operator.types("addresses", "merge").out

    link_elsewhere(operator, some(operator, 2))
    (repairing,) = re.findall(
        r"`backfill (repair user_events --kind link --count 2)`", operator.types("repair").out
    )
    wrong = operator.types("repair", "--all-tables", "--kind", "link", "--count", 3, expect=2)
    assert "the count found is 2" in wrong.err
    operator.types("repair", "--all-tables", "--kind", "link", "--count", 2)
    assert repairing
    assert "No row" in operator.types("repair", "--kind", "link").out
    operator.types("verify")

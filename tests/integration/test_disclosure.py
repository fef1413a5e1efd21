"""Disclosure: the nine items of a data request, before, between and after the migrations."""

import json
import stat
from pathlib import Path
from typing import Any

from tests.databases import query
from tests.operator import Operator

BUSIEST = """select u.username::text from users u join user_events e on e.source_id = u.id
              join journals j on j.submitted_by = u.username
             where j.submitted_from is not null and e.ip_address_string is not null
             group by 1 order by count(*) desc limit 1"""


def asked(operator: Operator, name: str) -> dict[str, dict[str, Any]]:
    """``"item table" → holding``."""
    found = json.loads(operator.types("disclose", name, "--format", "json").out)
    assert [item["item"] for item in found["items"]] == ["1", "2", "3a", "3b", "4", "5", "6", "7", "8", "9"]
    return {f"{item['item']} {held['table']}": held for item in found["items"] for held in item["holdings"]}


def test_counts_are_those_of_the_database_and_no_value_is_shown(fresh_demo: Operator) -> None:
    url = fresh_demo.url
    ((name,),) = query(url, BUSIEST)
    found = asked(fresh_demo, name)
    ((events, raw, geo),) = query(
        url,
        """select count(*), count(e.ip_address_string), count(e.additional -> 'geoip_info')
             from user_events e join users u on u.id = e.source_id where u.username = %s""",
        name,
    )
    held = found["3b user_events"]
    assert (held["rows"], held["columns"]["ip_address_string"]) == (events, raw)
    assert held["columns"]["additional.geoip_info"] == geo
    assert held["holds"] == {"ip_address_string": "raw address", "additional.geoip_info": "geo"}
    ((entries, froms),) = query(url, "select count(*), count(submitted_from) from journals where submitted_by = %s", name)  # fmt: skip
    assert (found["3a journals"]["rows"], found["3a journals"]["columns"]["submitted_from"]) == (
        entries,
        froms,
    )
    ((linked,),) = query(
        url,
        """select count(distinct e.ip_address_id) from user_events e join users u on u.id = e.source_id
            where u.username = %s""",
        name,
    )
    addresses = found["4 ip_addresses"]
    assert addresses["rows"] == linked
    assert addresses["holds"] == {
        "ip_address": "raw address",
        "hashed_ip_address": "hashed address",
        "geoip_info": "geo",
    }
    assert found["1 users"]["columns"] == {"username": 1, "name": 1}
    emails = query(
        url, "select email from user_emails m join users u on u.id = m.user_id where username = %s", name
    )
    text = fresh_demo.types("disclose", name).out
    assert found["2 user_emails"]["rows"] == len(emails)
    assert not any(email in text for (email,) in emails)
    raws = query(url, "select distinct ip_address_string from user_events e join users u on u.id = e.source_id where username = %s and length(ip_address_string) > 6", name)  # fmt: skip
    assert not any(value in text for (value,) in raws)
    assert "(raw address)" in text


def test_an_unknown_user_is_a_clear_line_and_1(fresh_demo: Operator) -> None:
    said = fresh_demo.types("disclose", "nobody at all", expect=1)
    assert (
        said.err
        == "backfill: No user is called nobody at all in this database: a data request about them returns nothing.\n"
    )
    assert "say whom" in fresh_demo.types("disclose", expect=2).err


def test_data_goes_only_to_a_new_file_of_ours_alone(fresh_demo: Operator, tmp_path: Path) -> None:
    ((name,),) = query(fresh_demo.url, BUSIEST)
    path = tmp_path / "data.json"
    fresh_demo.types("disclose", name, "--show-data", path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    items = {item["item"]: item for item in json.loads(path.read_text())["items"]}
    ((events,),) = query(fresh_demo.url, "select count(*) from user_events e join users u on u.id = e.source_id where username = %s", name)  # fmt: skip
    (held,) = items["3b"]["holdings"]
    assert len(held["data"]) == events
    assert any(row["ip_address_string"] for row in held["data"])
    path.write_text("mine")
    assert "it is there already" in fresh_demo.types("disclose", name, "--show-data", path, expect=2).err
    assert path.read_text() == "mine"


def test_before_between_and_after_and_what_is_no_longer_returned(
    proved_run: Operator, tmp_path: Path
) -> None:
    ((name,),) = query(proved_run.url, BUSIEST)
    moments = {"before": None, "between": "0004_project_events", "after": "head"}
    for moment, revision in moments.items():
        if revision:
            proved_run.migrates(revision)
        proved_run.types("disclose", name, "--output", tmp_path / f"{moment}.json")
    after = proved_run.types("disclose", name).out
    assert "Raw addresses: none." in after
    said = proved_run.types(
        "disclose", "--compare", tmp_path / "before.json", tmp_path / "after.json", "--format", "json"
    )
    gone = {(one["item"], one["column"]): one for one in json.loads(said.out)}
    for column in ("user_events.ip_address_string", "journals.submitted_from", "ip_addresses.ip_address"):
        assert gone["4", column]["before"] > 0
        assert gone["4", column]["after"] is None
        assert gone["4", column]["kind"] == "raw address"
    assert not any(one["kind"] in ("hashed address", "geo") for one in gone.values())
    text = proved_run.types("disclose", "--compare", tmp_path / "before.json", tmp_path / "between.json").out
    assert (
        "No longer returned: the raw addresses in journals.submitted_from, user_events.ip_address_string."
        in text
    )
    same = proved_run.types("disclose", "--compare", tmp_path / "after.json", tmp_path / "after.json").out
    assert same == "Both requests return the same.\n"
    (tmp_path / "bad.json").write_text("[]")
    said = proved_run.types("disclose", "--compare", tmp_path / "bad.json", tmp_path / "after.json", expect=2)
    assert "is no disclosure" in said.err

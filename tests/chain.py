"""The whole chain on one database, from plan to proof, and what it came to: for comparing one with another."""

import json
from contextlib import closing
from typing import Any

from sqlalchemy import make_url

from backfill.database import session
from backfill.prove.finding import Depth
from tests.demo_template import ALL_EVENTS, TABLES
from tests.operator import Operator

EVENTS = f"""
    select name, event.id::text, time::text, raw, additional::text, hashed_ip_address
      from ({ALL_EVENTS}) as event left join ip_addresses as known on known.id = link order by 1, 2
"""
MIGRATED = " union all ".join(
    f"""select '{name}', event.id::text, time::text, additional::text, hashed_ip_address
          from {name} as event left join ip_addresses as known on known.id = ip_address_id"""
    for name in TABLES
)
ADDRESSES = (
    "select hashed_ip_address, geoip_info::text, is_banned, ban_date::text from ip_addresses order by 1, 2"
)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """Rows, in a session that the settings of role and database do not disturb."""
    target = make_url(url)
    words = target.translate_connect_args(username="user", database="dbname") | dict(target.query)
    connection, _ = session.connect(**words)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("set search_path to public")
        cursor.execute(statement)
        return cursor.fetchall()


def goes_the_whole_way(operator: Operator) -> dict[str, Any]:
    """Every command in its order; what they found and left."""
    url = operator.url
    found: dict[str, Any] = {"plan": operator.types("plan").code}
    scanned = json.loads(operator.types("scan", "--format", "json", expect=None).out)
    found["scan"] = {name: fact for name, fact in scanned.items() if name not in ("made", "database")}
    found["calibrate"] = operator.types("calibrate").code
    operator.types("run", "--quiet")
    found["events"] = query(url, EVENTS)
    found["waiting"] = {table: sorted(operator.waiting(table).values()) for table in TABLES}
    operator.settles_everything()
    verified = json.loads(operator.types("verify", "--format", "json").out)
    found["verify"] = [(one["table"], one["covered"], one["counts"]) for one in verified["tables"]]
    found["quarantine"] = query(
        url,
        "select job, row_key, reason from backfill.quarantine where job not like '%ip_addresses%' order by 1, 2",
    )
    user = query(url, "select username::text from users order by 1 limit 1")[0][0]
    found["disclose"] = operator.types("disclose", user.upper()).out
    found["migrated"] = operator.migrates().count("Running upgrade")
    found["events afterwards"] = query(url, f"{MIGRATED} order by 1, 2")
    found["addresses"] = query(url, ADDRESSES)
    operator.types("erase", expect=None)
    proof = operator.types("prove", "--format", "json", expect=None)
    # What pages and WAL still hold depends on what else the server does meanwhile.
    found["proof"] = sorted(
        (finding["where"], finding["state"])
        for finding in json.loads(proof.out)["findings"]
        if finding["depth"] == Depth.CATALOG
    )
    report = json.loads(operator.types("report", "--format", "json").out)
    found["report"] = [(table["table"], table["covered"]) for table in report["tables"]]
    found["status"] = operator.types("status", expect=None).code
    return found

"""Values that are rewritten in place, and clients and servers that are killed meanwhile: nothing is lost, nothing is done twice."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from backfill.hashing.salt import Salt
from tests import rewritten
from tests.databases import connect, query
from tests.faults.cluster import Cluster
from tests.operator import Operator, ended
from tests.rewritten import SALT
from tests.unit.test_geo import CONTINENT, FULL, write_database

ROWS = 4_000
KINDS = {"pseudonym": "inet", "hash": "text", "network": "varchar(45)", "nothing": "inet"}
# What names a row: one column where it is not said.
KEYS = {"hash": "", "network": ", primary key (note, id)"}
RUN = ("run", "--quiet", "--workers", "2", "--batch-blocks", "8")
PATIENCE = 120.0
# Wide rows, so that there are batches enough; a column of each table that nobody may touch.
FILL = """
    create table {name} (id bigint generated always as identity, ip {type}, note text, place jsonb{key});
    insert into {name} (ip, note)
    select case when i % 10 = 0 then null
                when i % 3 = 0 then host(('2a00:' || to_hex(i % 97) || ':1::' || to_hex(i % 311))::inet)::{type}
                else ('81.2.' || (i % 91) || '.' || (i % 251))::{type} end,
           repeat('x', 200) || i
      from generate_series(1, {rows}) as i;
"""
TOGETHER = """
    {fill};
    alter table together add last_ip text, add first_ip text;
    update together set last_ip = host(ip), first_ip = case when id % 4 = 0 then null else '9.' || id % 7 || '.0.' || id % 5 end;
"""
ALL_THREE = "select id, host(ip), last_ip, first_ip from together order by id"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server that may be killed."""
    made = Cluster("rewritten").init().start()
    yield made
    made.remove()


def shown(url: str, name: str) -> list[tuple[int, str | None, str]]:
    return query(
        url, f"select id, case when ip is null then null else concat(ip) end, note from {name} order by id"
    )


def stands_at(operator: Operator, process, phase: str, share: float) -> bool:
    """Wait until *share* of the batches of the phase are done; False when the process ended before."""
    progress = """
        select coalesce((select avg((status = 'succeeded')::int) >= %s from backfill.batches where phase = %s), false)
    """
    end = time.monotonic() + PATIENCE
    with closing(connect(operator.url)) as connection, connection.cursor() as cursor:
        while process.poll() is None:
            assert time.monotonic() < end, "it never came to that"
            cursor.execute(progress, (share, phase))
            if cursor.fetchone()[0]:
                return True
            time.sleep(0.005)
    return False


def test_killed_clients_and_a_killed_server_leave_every_row_as_its_job_asks(
    cluster: Cluster, home: Path, tmp_path: Path
) -> None:
    url, chance = cluster.url(), random.Random(15)
    for kind, type_ in KINDS.items():
        query(url, FILL.format(name=kind, type=type_, rows=ROWS, key=KEYS.get(kind, ", primary key (id)")))
    jobs = [
        {"table": kind, "raw": "ip", "becomes": kind, "unreadable": "refuse", "geo": "place"}
        | ({"then": "keep"} if kind == "nothing" else {})
        for kind in KINDS
    ]
    query(
        url,
        FILL.format(name="beside", type="inet", rows=ROWS, key=", primary key (id)")
        + "alter table beside add hashed text",
    )
    jobs.append({"table": "beside", "raw": "ip", "becomes": "hash", "into": "hashed"})
    # Three jobs of one table, whose rows are rewritten together.
    query(
        url,
        TOGETHER.format(fill=FILL.format(name="together", type="inet", rows=ROWS, key=", primary key (id)")),
    )
    together = {"ip": "pseudonym", "last_ip": "network", "first_ip": "hash"}
    jobs[1:1] = [
        {"table": "together", "raw": raw, "becomes": becomes, "unreadable": "refuse"}
        for raw, becomes in together.items()
    ]
    were = query(url, ALL_THREE)
    beside = shown(url, "beside")
    city_file = write_database(tmp_path / "city.mmdb", {"81.2.0.0/16": FULL, "2a00::/16": CONTINENT})
    operator = rewritten.operator(url, home, rewritten.plan_file(tmp_path, *jobs)).having(
        geoip_db=str(city_file)
    )
    before = {kind: shown(url, kind) for kind in KINDS}
    command = rewritten.confirmed(operator.types(*RUN, expect=2)) + list(RUN[1:])

    killed = 0
    for phase, share in (("resolve", 0.5), ("link", 0.1), ("link", 0.4)):
        with ended(operator.starts(*command)) as process:
            if stands_at(operator, process, phase, share):
                time.sleep(chance.uniform(0, 0.05))
                killed += 1
            process.kill()
            process.wait()
    with ended(operator.starts(*command)) as process:  # between two batches: the map is empty afterwards
        if stands_at(operator, process, "link", 0.6):
            cluster.end(signal.SIGKILL)
            killed += 1
            process.kill()
            process.wait()
            cluster.start()
    assert killed >= 3
    ((rewritten_before,),) = query(url, "select count(*) from pseudonym where ip <<= 'fd00::/8'")
    assert rewritten_before > 0
    said = operator.really_types(*command)
    assert said.code == 0, said

    ((prefix,),) = query(url, "select prefix from backfill.pseudonym_prefixes")
    pseudonyms = Salt(SALT, source="test").pseudonyms(prefix)
    makes = {
        "pseudonym": lambda text: pseudonyms.pseudonym(str(rewritten.canonical(text))),
        "hash": rewritten.hashed,
        "network": rewritten.network,
        "nothing": lambda text: None,
    }
    for kind, rows in before.items():
        expected = [(key, None if was is None else makes[kind](was), note) for key, was, note in rows]
        assert shown(url, kind) == expected, kind
        cities = [None if was is None else "EU" if ":" in was else "NA" for _, was, _ in rows]
        query_places = f"select place ->> 'continent_code' from {kind} order by id"
        results = [was != now for (_, was, _), (_, now, _) in zip(rows, expected, strict=True)]
        assert [place if result else None for result, place in zip(results, cities, strict=True)] == [
            place for (place,) in query(url, query_places)
        ]
    assert query(url, ALL_THREE) == [
        (
            key,
            *(
                None if was is None else makes[kind](was)
                for was, kind in zip(row, together.values(), strict=True)
            ),
        )
        for key, *row in were
    ]
    shared = query(url, "select distinct job from backfill.batches where phase = 'shared-link'")
    assert {job for (job,) in shared} == {"public.together.last_ip", "public.together.first_ip"}
    assert shown(url, "beside") == beside
    hashed = [None if text is None else rewritten.hashed(text) for _, text, _ in beside]
    assert [now for (now,) in query(url, "select hashed from beside order by id")] == hashed
    operator.types("verify")
    again = operator.types("run", "--quiet")
    assert " 0 " in again.out
    for kind, rows in before.items():
        assert [now for _, now, _ in shown(url, kind)] == [
            None if was is None else makes[kind](was) for _, was, _ in rows
        ]
    with pytest.raises(psycopg2.errors.UndefinedTable):
        query(url, "select from backfill.address_map")

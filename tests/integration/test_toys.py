"""A geo source, a sensor and a hash scheme more: each one file and one line in a list, and then used for real.

A kind of job more: a file and a line for writing, a file and a line for judging.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path

from tests.databases import connect, query
from tests.demo_template import SALT
from tests.integration.test_calibrate import JOBS, PYPI_TOML, rehash
from tests.operator import ROOT, Operator


class Toys:
    """A copy of the package, to which files and lines are added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "backfill", folder / "backfill", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "alembic", folder / "alembic", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "alembic.ini", folder)

    def add(self, file: str, text: str, *, listed_in: str, imported: str, after: str, line: str) -> None:
        """The toy's one file, and its one line *after* that one, with the import that it needs."""
        (self.folder / file).write_text(text)
        where = self.folder / listed_in
        listing = where.read_text()
        assert listing.count(after) == 1
        listing = listing.replace(after, f"{after}\n    {line}").replace("\nfrom ", f"\n{imported}\nfrom ", 1)
        where.write_text(listing)

    def types(self, operator: Operator, *words: object, code: int = 0) -> str:
        """``backfill WORDS…`` of the copy, in a process of its own; everything that it said."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BACKFILL_")}
        done = subprocess.run(
            [sys.executable, "-m", "backfill", *map(str, words)],
            env=clean | operator.variables | {"PYTHONPATH": str(self.folder)},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout


GEO = '''"""Toy: every address has the place that the file's one line names, "DE Nowhere"."""

from datetime import datetime
from pathlib import Path

from backfill.addresses import Address
from backfill.geo.source import Geo, GeoProvenance, GeoSource


class OnePlace(GeoSource):
    """The same place for all."""

    def __init__(self, path: Path) -> None:
        build, code, city = path.read_text().split()
        self.provenance = GeoProvenance(path, "One-Place", datetime.fromisoformat(build))
        self._place: Geo = {"city": city, "country_code": code}

    def find(self, address: Address) -> Geo | None:
        return self._place
'''


def test_a_geo_source_more(settled_run: Operator, tmp_path: Path) -> None:
    """Built at the very moment of the other: the ledger tells them apart."""
    url, toys = settled_run.url, Toys(tmp_path)
    toys.add(
        "backfill/geo/one_place.py",
        GEO,
        listed_in="backfill/geo/sources.py",
        imported="from backfill.geo.one_place import OnePlace",
        after="SOURCES: list[SourceKind] = [",
        line='SourceKind(".place", OnePlace),',
    )
    (build,), *_ = query(url, "select distinct build from backfill.geo_lookups")
    assert isinstance(build, datetime)
    query(url, "update ip_addresses set geoip_info = null where geoip_info->>'country_code' = 'US'")
    (tmp_path / "all.place").write_text(f"{build.isoformat()} DE Nowhere")
    operator = settled_run.having(geoip_db=str(tmp_path / "all.place"))

    toys.types(operator, "run", "--quiet")
    assert query(url, "select geo_type from backfill.runs order by id") == [
        ("GeoLite2-City",),
        ("One-Place",),
    ]
    looked_up = (
        "select source, count(*) filter (where found) from backfill.geo_lookups where build = %s group by 1"
    )
    found = dict(query(url, looked_up, build))
    assert set(found) == {"GeoLite2-City", "One-Place"}
    assert found["One-Place"] > 0
    placed = query(url, "select distinct geoip_info from ip_addresses where geoip_info->>'city' = 'Nowhere'")
    assert placed == [({"city": "Nowhere", "country_code": "DE"},)]

    toys.types(operator, "verify")
    day = f"{build:%Y-%m-%d}"
    builds = query(
        url, "select geo_builds from backfill.coverage where geo_builds <> '{}' order by id desc limit 1"
    )
    assert set(builds[0][0]) == {f"GeoLite2-City {day}", f"One-Place {day}"}


SENSOR = '''"""Toy: pause while anybody holds advisory lock 4711."""

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import value
from backfill.engine.throttle.sensor import Breach
from backfill.settings import Settings

LOCKED = sql.SQL("""
    select exists (select from pg_locks where locktype = 'advisory' and objid = 4711 and granted)
""")


class Doorbell:
    """Whoever holds the lock wants quiet."""

    name = "doorbell"

    @classmethod
    def from_settings(cls, settings: Settings) -> "Doorbell":
        return cls()

    def check(self, connection: Connection) -> Breach | None:
        return Breach(self.name, "somebody holds lock 4711") if value(connection, LOCKED) else None
'''


def test_a_sensor_more(fresh_demo: Operator, tmp_path: Path) -> None:
    url, toys = fresh_demo.url, Toys(tmp_path)
    toys.add(
        "backfill/engine/throttle/doorbell.py",
        SENSOR,
        listed_in="backfill/engine/throttle/sensors.py",
        imported="from backfill.engine.throttle.doorbell import Doorbell",
        after="SENSORS: list[Callable[[Settings], Sensor | None]] = [",
        line="Doorbell.from_settings,",
    )
    throttled: list[str] = []
    fresh_demo.migrates("0001_expand")

    def let_go(connection) -> None:
        end = time.monotonic() + 120
        while not throttled and time.monotonic() < end:
            throttled.extend(why for (why,) in query(url, "select throttled from backfill.runs") if why)
            time.sleep(0.1)
        connection.close()

    holder = connect(url)
    with closing(holder), holder.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(4711)")
        looking = threading.Thread(target=let_go, args=(holder,))
        looking.start()
        said = toys.types(fresh_demo, "run", "--quiet")
        looking.join()
    assert throttled == ["somebody holds lock 4711"]
    assert "Waiting: somebody holds lock 4711." in said
    assert query(url, "select status, throttled from backfill.runs") == [("succeeded", None)]


SCHEME = '''"""Toy: SHA3-256, the salt between two colons."""

from hashlib import sha3_256

from backfill.hashing.scheme import HashScheme

SHA3_COLONS = HashScheme("sha3-colons", lambda text, salt: sha3_256(b":%b:%b" % (salt, text)).hexdigest())
'''


def by_hand(text: str) -> str:
    return hashlib.sha3_256(f":{SALT}:{text}".encode()).hexdigest()


def test_a_hash_scheme_more(fresh_demo: Operator, tmp_path: Path) -> None:
    url, toys = fresh_demo.url, Toys(tmp_path)
    toys.add(
        "backfill/hashing/sha3_colons.py",
        SCHEME,
        listed_in="backfill/hashing/schemes.py",
        imported="from backfill.hashing.sha3_colons import SHA3_COLONS",
        after="SCHEMES: list[HashScheme] = [  # in the order in which calibration lists them",
        line="SHA3_COLONS,",
    )
    rehash(url, by_hand)
    (tmp_path / "plan.toml").write_text(PYPI_TOML.format(scheme="sha3-colons", jobs=JOBS))
    operator = fresh_demo.having(plan=str(tmp_path / "plan.toml"))

    explained = json.loads(toys.types(operator, "calibrate", "--format", "json"))["explained"]
    assert explained.pop("sha3-colons") > 0
    assert set(explained.values()) == {0}
    toys.types(operator, "run", "--quiet")
    ours = query(
        url,
        """select host(ip_address), hashed_ip_address from ip_addresses
            where hashed_ip_address is not null and masklen(ip_address) = case family(ip_address) when 4 then 32 else 128 end
              and host(ip_address) not like '::ffff:%'""",
    )
    assert len(ours) > 100
    assert [(text, hashed) for text, hashed in ours if hashed != by_hand(text)] == []
    assert query(url, "select scheme from backfill.runs") == [("sha3-colons",)]


WRITER = '''"""Toy: an address becomes the word "seen", in its place."""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import execute
from backfill.database.quoting import table
from backfill.database.writing import writes
from backfill.jobs.passes import Pass
from backfill.jobs.row_needs import raw_text
from backfill.ledger import address_map
from backfill.ledger.batches import Batch
from backfill.plan import Job, Plan

WRITE = sql.SQL("""
    update {table} as event set {assignment} from {map} as map
     where map.raw OPERATOR(pg_catalog.=) {text} and {usable} and {unfinished} and {in_range}
""")


@dataclass(frozen=True)
class SeenWriter:
    job: Job
    schema: str
    carries = ()

    @property
    def unfinished(self) -> sql.Composable:
        return sql.SQL("(event.{0} is not null and {1} OPERATOR(pg_catalog.<>) 'seen')").format(
            sql.Identifier(self.job.raw), raw_text(self.job)
        )

    @property
    def finished(self) -> sql.Composable:
        return sql.SQL("({} OPERATOR(pg_catalog.=) 'seen') is true").format(raw_text(self.job))

    needs_text = unfinished

    @property
    def usable(self) -> sql.Composable:
        return sql.SQL("map.reason is null")

    @property
    def assignment(self) -> sql.Composable:
        return sql.SQL("{} = 'seen'").format(sql.Identifier(self.job.raw))

    def more(self, connection: Connection, plan: Plan) -> sql.Composable:
        return sql.SQL("false")

    def write(self, connection: Connection, plan: Plan | None, batch: Batch, now: Pass) -> int:
        statement = WRITE.format(
            table=table(self.job),
            map=address_map.name(self.schema),
            text=raw_text(self.job),
            assignment=self.assignment,
            usable=self.usable,
            unfinished=self.unfinished,
            in_range=now.range.holds("event"),
        )
        with writes(connection, self.job), execute(connection, statement) as cursor:
            return cursor.rowcount
'''

JUDGE = '''"""Toy: every raw value is the word "seen"."""

from dataclasses import dataclass

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.ledger.counts import Count
from backfill.ledger.coverage_record import CoverageRecord, Kind
from backfill.ledger.verification_ranges import RangeCounts
from backfill.plan import Job
from backfill.verify.judge import Ground

READ = sql.SQL("""
    select count(*), count({raw}), count(*) filter (where {raw} = 'seen') from {table} as event where {in_range}
""")


@dataclass
class SeenJudge:
    ground: Ground
    job: Job
    asks_hashes = False

    def begin(self, connection: Connection) -> None:
        pass

    def read(self, connection: Connection, span, slot, *, hashes_amiss: bool) -> RangeCounts:
        names = {"raw": sql.Identifier(self.job.raw), "table": table(self.job), "in_range": span.holds("event")}
        with slot:
            ((total, raw, seen),) = rows(connection, READ.format(**names))
        return RangeCounts(counts={Count.ROWS: total, Count.RAW: raw, Count.RIGHT: seen})

    def verdict(self, connection: Connection, held: list[RangeCounts]) -> CoverageRecord:
        total, raw, seen = (sum(one.counts[count] for one in held) for count in (Count.ROWS, Count.RAW, Count.RIGHT))
        left = raw - seen
        return CoverageRecord(
            job=self.job.identity,
            table=self.job.label,
            kind=Kind.EVENTS,
            covered=left == 0,
            counts={Count.ROWS: total, Count.RAW: raw, Count.RIGHT: seen, Count.UNLINKED: left},
            reasons=(f"{left} rows hold another word",) if left else (),
            raw_rows=raw,
        )
'''


def test_a_kind_of_job_more(fresh_demo: Operator, tmp_path: Path) -> None:
    url, toys = fresh_demo.url, Toys(tmp_path)
    toys.add(
        "backfill/jobs/seen.py",
        WRITER,
        listed_in="backfill/jobs/kinds.py",
        imported="from backfill.jobs.seen import SeenWriter",
        after="WRITERS: Mapping[str, Callable[[Any, str], Writer]] = {",
        line='"seen": SeenWriter,',
    )
    toys.add(
        "backfill/verify/seen.py",
        JUDGE,
        listed_in="backfill/verify/judges.py",
        imported="from backfill.verify.seen import SeenJudge",
        after="JUDGES: Mapping[str, Callable[[Ground, Any], Judge]] = {",
        line='"seen": SeenJudge,',
    )
    seen = '[[jobs]]\ntable = "journals"\nraw = "submitted_from"\ntime = "submitted_date"\nbecomes = "seen"\n'
    plan = PYPI_TOML.format(scheme="sha256-suffix", jobs=JOBS.split("[[jobs]]")[1].join(["[[jobs]]", seen]))
    accept = 'accept = ["after-trigger:public.journals.update_project_last_serial"]\n'
    (tmp_path / "plan.toml").write_text(accept + plan.partition("[[discard]]")[0])
    operator = fresh_demo.having(plan=str(tmp_path / "plan.toml"))
    query(url, "update journals set submitted_from = 'nonsense' where id between 11 and 13")
    raw = "select count(submitted_from), count(*) filter (where submitted_from = 'seen') from journals"
    before = query(url, raw)[0][0]

    said = toys.types(operator, "plan")
    assert 'no sample is known of becomes = "seen"' in said
    toys.types(operator, "run", "--quiet")
    waiting = query(url, "select row_key, reason from backfill.quarantine where job like '%journals%'")
    assert ("11", "host-name") in waiting
    assert query(url, raw) == [(before, before - len(waiting))]
    said = toys.types(operator, "verify", code=1)
    assert f"{len(waiting)} rows hold another word" in said

    # It changes nothing twice, and its rows leave the quarantine when they are right.
    query(
        url,
        "update journals set submitted_from = null where id::text in (select row_key from backfill.quarantine)",
    )
    toys.types(operator, "run", "journals", "--quiet")
    written = "select sum(written) from backfill.batches where phase = 'link' and job like '%journals%' and run_id = 2"
    assert query(url, written) == [(0,)]
    assert query(url, "select count(*) from backfill.quarantine where job like '%journals%'") == [(0,)]
    toys.types(operator, "verify", "--format", "json", code=1)  # what else the demo has in it
    assert query(url, "select covered from backfill.coverage where job like '%journals%' order by id") == [
        (False,),
        (True,),
    ]

    # What is for links alone says so.
    assert 'journals become "seen", not links' in toys.types(operator, "seal", "journals", code=2)
    assert "journals" not in toys.types(operator, "gates", "--checklist")
    assert "jobs.1.becomes: Input should be one of: link" in operator.types("plan", expect=2).err

"""Measure: one contender on one copy of the database, seen from outside."""

import contextlib
import hashlib
import resource
import time
from dataclasses import dataclass

import psutil

from backfill.plan import EVENT_TABLES
from benchmarks import residue
from benchmarks.contenders import Contender
from benchmarks.ground import Ground
from benchmarks.live_writer import TAG, Block, live_writer
from benchmarks.record import Record
from tests.databases import query

SETTLE_SECONDS = 0.3  # a backend's time is counted with its parent's when it has ended


def _sum(what: str) -> str:
    return "select " + " + ".join(what.format(f"'{name}'") for name in EVENT_TABLES)


TABLES, INDEXES = _sum("pg_table_size({})"), _sum("pg_indexes_size({})")
LINKED = "select " + " + ".join(f"(select count(ip_address_id) from {name})" for name in EVENT_TABLES)

# Address keys are random, so a link is told by its address; a sum does not depend on the order of rows.
# Hashes are left out: `backfill run` fills them in addresses, too, that no text of an event names.
CONTENT = " union all ".join(
    f"""
    select '{name}', count(*), sum(hashtextextended(
               concat_ws('|', event.id, event.ip_address_string, known.ip_address,
                         coalesce(event.additional::text, 'none')), 0)::numeric)
      from {name} as event left join ip_addresses as known on known.id = event.ip_address_id
     where event.tag <> '{TAG}'
    """
    for name in EVENT_TABLES
)


@dataclass(frozen=True)
class Terms:
    """What is looked at beside the time."""

    series: str = "contenders"
    sitting: str = ""
    about: str = ""
    writer: bool = True  # beside every contender but a sample
    after: bool = True  # raw texts in the files, and a fresh rewrite to compare the size with


def measure(ground: Ground, contender: Contender, number: int = 1, terms: Terms = Terms()) -> Record:
    """Run *contender* on a fresh copy."""
    with ground.site() as site:

        def look(statement: str) -> int:
            return int(query(site.url, statement)[0][0])

        known = residue.known_texts(site.url) if terms.after else frozenset()
        contender.prepare(site)
        server = psutil.Process(ground.postmaster())
        tables, linked = look(TABLES), look(LINKED)
        with contextlib.ExitStack() as stack:
            beside = terms.writer and not contender.sampled
            block = stack.enter_context(live_writer(site.url)) if beside else Block()
            lsn = query(site.url, "select pg_current_wal_lsn()")[0][0]
            cpu = cpu_seconds(server)
            work = contender.run(site)
            time.sleep(SETTLE_SECONDS)
            cpu = cpu_seconds(server) - cpu
            wal = int(query(site.url, "select pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", lsn)[0][0])
        written = _written(site.url)
        after = terms.after and not contender.sampled
        content = str(sorted(query(site.url, CONTENT))) if contender.complete else None
        table_bytes, index_bytes = look(TABLES), look(INDEXES)
        return Record(
            contender=contender.name,
            series=terms.series,
            about=terms.about,
            sitting=terms.sitting,
            round=number,
            events=ground.made.events,
            distinct=ground.made.distinct,
            linked=look(LINKED) - linked - written,
            waiting=ground.waiting,
            seconds=work.seconds,
            cpu_seconds=cpu,
            wal_bytes=wal,
            table_bytes=table_bytes,
            index_bytes=index_bytes,
            grew=table_bytes / tables,
            sampled=contender.sampled,
            complete=contender.complete,
            longest=work.longest,
            blocked=block.longest if block.operations else None,
            blocked_statement=block.statement if block.operations else None,
            writes=block.operations or None,
            write_errors=block.errors,
            pss_bytes=work.pss_bytes,
            raw_left=residue.left(site.url, known) if after else None,
            raw_known=len(known) if after else None,
            fresh_bytes=_fresh(site.url) if after else None,
            parts=dict(work.parts),
            content=hashlib.sha256(content.encode()).hexdigest() if content else None,
        )


def _written(url: str) -> int:
    """Rows that the live writer put in."""
    counts = (f"(select count(*) from {name} where tag = '{TAG}')" for name in EVENT_TABLES)
    return int(query(url, "select " + " + ".join(counts))[0][0])


def _fresh(url: str) -> int:
    """The size of the same rows, written anew."""
    for name in EVENT_TABLES:
        query(url, f"vacuum full {name}")
    return int(query(url, TABLES)[0][0])


def cpu_seconds(server: psutil.Process) -> float:
    """CPU time spent so far by the server, by us, and by the commands that we ran to their end."""
    spent = 0.0
    for process in (server, *server.children()):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system + times.children_user + times.children_system
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        spent += usage.ru_utime + usage.ru_stime
    return spent

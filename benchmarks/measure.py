"""Measure: one contender on one copy of the database, seen from outside."""

import resource
import time
from dataclasses import dataclass

import psutil

from backfill.plan import EVENT_TABLES
from benchmarks.contenders import Contender, Work
from benchmarks.ground import Ground
from tests.databases import query

HEAP = "select " + " + ".join(f"pg_relation_size('{name}')" for name in EVENT_TABLES)
SETTLE_SECONDS = 0.3  # a backend's time is counted with its parent's when it has ended
LINKED = "select " + " + ".join(f"(select count(ip_address_id) from {name})" for name in EVENT_TABLES)

# Address keys are random, so a link is told by its address; a sum does not depend on the order of rows.
# Hashes are left out: `backfill run` fills them in addresses, too, that no text of an event names.
CONTENT = " union all ".join(
    f"""
    select '{name}', count(*), sum(hashtextextended(
               concat_ws('|', event.id, event.ip_address_string, known.ip_address,
                         coalesce(event.additional::text, 'none')), 0)::numeric)
      from {name} as event left join ip_addresses as known on known.id = event.ip_address_id
    """
    for name in EVENT_TABLES
)


@dataclass(frozen=True)
class Measurement:
    """What one run of one contender cost, and what it left."""

    contender: str
    work: Work
    linked: int  # rows that got a link
    cpu_seconds: float  # of server and client together: what noise on the machine does not change much
    wal_bytes: int
    heap_before: int
    heap_after: int
    content: tuple[tuple[object, ...], ...]

    @property
    def rate(self) -> float:
        """Rows linked a second."""
        return self.linked / self.work.seconds


def measure(ground: Ground, contender: Contender) -> Measurement:
    """Run *contender* on a fresh copy."""
    with ground.site() as site:
        contender.prepare(site)
        server = psutil.Process(ground.postmaster())

        def look(statement: str) -> int:
            return int(query(site.url, statement)[0][0])

        heap, linked = look(HEAP), look(LINKED)
        lsn = query(site.url, "select pg_current_wal_lsn()")[0][0]
        cpu = cpu_seconds(server)
        work = contender.run(site)
        time.sleep(SETTLE_SECONDS)
        cpu = cpu_seconds(server) - cpu
        wal = int(query(site.url, "select pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", lsn)[0][0])
        return Measurement(
            contender=contender.name,
            work=work,
            linked=look(LINKED) - linked,
            cpu_seconds=cpu,
            wal_bytes=wal,
            heap_before=heap,
            heap_after=look(HEAP),
            # Sorted: the server may append the tables in parallel, in whatever order they end.
            content=tuple(sorted(query(site.url, CONTENT))) if contender.complete else (),
        )


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

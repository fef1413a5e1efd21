"""Measure: one contender on one copy of the database, seen from outside."""

from dataclasses import dataclass

from backfill.plan import EVENT_TABLES
from benchmarks.contenders import Contender, Work
from benchmarks.ground import Ground
from tests.databases import query

HEAP = "select " + " + ".join(f"pg_relation_size('{name}')" for name in EVENT_TABLES)
LINKED = "select " + " + ".join(f"(select count(ip_address_id) from {name})" for name in EVENT_TABLES)

# Address keys are random, so a row is told by its address; a sum does not depend on the order of rows.
CONTENT = " union all ".join(
    f"""
    select '{name}', count(*), sum(hashtextextended(
               concat_ws('|', event.id, event.ip_address_string, known.ip_address, known.hashed_ip_address,
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

        def look(statement: str) -> int:
            return int(query(site.url, statement)[0][0])

        heap, linked = look(HEAP), look(LINKED)
        lsn = query(site.url, "select pg_current_wal_lsn()")[0][0]
        work = contender.run(site)
        wal = int(query(site.url, "select pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", lsn)[0][0])
        return Measurement(
            contender=contender.name,
            work=work,
            linked=look(LINKED) - linked,
            wal_bytes=wal,
            heap_before=heap,
            heap_after=look(HEAP),
            content=tuple(query(site.url, CONTENT)) if contender.complete else (),
        )

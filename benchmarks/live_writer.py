"""A live writer beside a contender: ``python -m benchmarks.live_writer URL`` until its input is closed.

A process of its own, so that nothing that the harness does looks like a block. Every ten milliseconds
one small statement and its commit, timed whole: in turn an insert (a row as the application writes it
once it stores no address), and a touch of a row that still has to be linked, which changes nothing
that counts. What is looked for is the longest one, whatever held it up: a lock, or the disk.
"""

import json
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg2

from backfill.plan import EVENT_TABLES
from tests.databases import connect, dsn

EVERY_SECONDS = 0.01
TOUCHED = 2_000  # rows, spread over the largest table
TAG = "benchmark: live"

ROWS = f"""
    select id from {EVENT_TABLES[0]}
     where ip_address_id is null and ip_address_string ~ '^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$'
     order by id limit {TOUCHED}
"""
TOUCH = f"update {EVENT_TABLES[0]} set tag = tag where id = %s"
INSERT = """
    insert into {table} (source_id, tag, additional, ip_address_id)
    select source_id, %s, '{{"geoip_info": {{"country_code": "XX"}}}}', (select id from ip_addresses limit 1)
      from {table} limit 1
"""


@dataclass
class Block:
    """What the writer met."""

    operations: int = 0
    longest: float = 0.0  # seconds of one statement with its commit
    statement: float = 0.0  # the longest statement alone: locks, without the commit's wait for the disk
    errors: list[str] = field(default_factory=list)  # classes


@contextmanager
def live_writer(url: str) -> Iterator[Block]:
    """Writes until the end of the block; the result is filled in then."""
    block = Block()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.live_writer", dsn(url)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdout.readline()  # it has begun
        yield block
    finally:
        process.stdin.close()
        told = json.loads(process.stdout.readline())
        process.wait()
        process.stdout.close()
        for name, value in told.items():
            setattr(block, name, value)


def main() -> None:
    """The process."""
    block, stop = Block(), threading.Event()
    with closing(connect(sys.argv[1], autocommit=False)) as connection, connection.cursor() as cursor:
        cursor.execute(ROWS)
        keys = [key for (key,) in cursor.fetchall()]
        connection.commit()
        print("writing", flush=True)
        threading.Thread(target=lambda: (select.select([sys.stdin], [], []), stop.set()), daemon=True).start()
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + EVERY_SECONDS, time.monotonic())
            turn, number = block.operations % 2, block.operations // 2
            began = time.monotonic()
            try:
                if turn == 0 and keys:
                    cursor.execute(TOUCH, (keys[number % len(keys)],))
                else:
                    table = EVENT_TABLES[number % len(EVENT_TABLES)]
                    cursor.execute(INSERT.format(table=table), (TAG,))
                block.statement = max(block.statement, time.monotonic() - began)
                connection.commit()
            except psycopg2.Error as error:
                block.errors.append(type(error).__name__)
                connection.rollback()
            block.longest = max(block.longest, time.monotonic() - began)
            block.operations += 1
    print(json.dumps(vars(block)), flush=True)


if __name__ == "__main__":
    main()

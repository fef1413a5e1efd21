"""Columns that are rewritten together beside an application that writes the same rows all the time: its last word counts."""

import random
import threading
from contextlib import closing
from pathlib import Path

from tests import rewritten
from tests.databases import connect, query

ROWS = 12_000
FILL = """
    create table logins (id int primary key, ip text, last_ip inet, first_ip varchar(64), writes int not null default 0, note text);
    insert into logins
    select i, '81.2.' || i % 91 || '.' || i % 251, ('9.' || i % 50 || '.1.' || i % 251)::inet, '2a00::' || to_hex(i % 3000), 0, repeat('x', 150)
      from generate_series(1, {rows}) as i;
    create index on logins (writes)
"""
KINDS = {"ip": "hash", "last_ip": "network", "first_ip": "hash"}
BY_HAND = {"hash": rewritten.hashed, "network": rewritten.network}
READ = "select id, ip, host(last_ip), first_ip, writes from logins order by id"


class Application:
    """Writes rows, each with other columns of the three, and keeps what it wrote."""

    def __init__(self, url: str, parity: int) -> None:
        self.url, self.parity = url, parity  # two of them have rows of their own
        self.last: dict[int, dict[str, str]] = {}
        self.writes: dict[int, int] = {}
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Application":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _work(self) -> None:
        chance = random.Random(self.parity)
        with closing(connect(self.url)) as connection, connection.cursor() as cursor:
            while not self._ends.is_set():
                key = chance.randrange(1, ROWS // 2) * 2 + self.parity
                host = f"{chance.randrange(256)}.{chance.randrange(256)}.7"
                new = chance.choice(
                    ({"ip": f"10.{host}", "last_ip": f"11.{host}"}, {"first_ip": f"12.{host}"}, {})
                )
                columns = "".join(f"{name} = '{text}', " for name, text in new.items())
                cursor.execute(f"update logins set {columns} writes = writes + 1 where id = {key}")
                self.last.setdefault(key, {}).update(new)
                self.writes[key] = self.writes.get(key, 0) + 1


def test_the_last_word_of_the_application_is_what_is_rewritten(
    database: str, home: Path, tmp_path: Path
) -> None:
    query(database, FILL.format(rows=ROWS))
    jobs = [
        {"table": "logins", "raw": raw, "becomes": kind, "unreadable": "refuse"}
        for raw, kind in KINDS.items()
    ]
    operator = rewritten.operator(database, home, rewritten.plan_file(tmp_path, *jobs))
    before = query(database, READ)
    words = rewritten.confirmed(operator.types("run", "--quiet", "--batch-blocks", "32", expect=2))
    with Application(database, 0) as even, Application(database, 1) as odd:
        operator.really_types(*words, "--workers", "2")
    operator.types("run", "--quiet")  # what came at the very end
    expected = []
    for key, *texts, _ in before:
        wrote = even if key % 2 == 0 else odd
        now = {**dict(zip(KINDS, texts, strict=True)), **wrote.last.get(key, {})}
        expected.append((key, *(BY_HAND[KINDS[raw]](now[raw]) for raw in KINDS), wrote.writes.get(key, 0)))
    assert query(database, READ) == expected
    assert sum(even.writes.values()) + sum(odd.writes.values()) > ROWS / 4
    shared = query(database, "select sum(written) from backfill.batches where phase = 'shared-link'")
    assert shared > [(ROWS / 2,)]
    operator.types("verify")

"""A run for a timer that is killed between two batches, and the next timer: one moment, no row twice, none that is younger."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from backfill.hashing.salt import Salt
from tests import rewritten
from tests.databases import connect, query
from tests.faults.cluster import Cluster
from tests.operator import Operator, Said, ended

ROWS = 1_500
DAYS = 28
TIMER = ("run", "--due", "--quiet", "--batch-blocks", "4", "--workers", "2")
BUSY = 75
PATIENCE = 120.0
SCHEMA = """
    create table logins (id bigint generated always as identity primary key, ip inet, created timestamptz not null, note text);
    create index on logins (created);
    insert into logins (ip, created, note) values ('8.8.8.8', now() - interval '30 days', repeat('x', 250) || 1);
"""
# Wide rows, so that there are batches enough; every fifth is too young.
FILL = """
    insert into logins (ip, created, note)
    select ('81.2.' || i % 91 || '.' || i % 251)::inet,
           now() - case when i % 5 = 0 then interval '27 days' else make_interval(days => 29 + i % 40) end, repeat('x', 250) || i
      from generate_series(2, {rows}) as i
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server that may be killed."""
    made = Cluster("due").init().start()
    yield made
    made.remove()


def shown(url: str) -> dict[int, tuple[str, bool, str, str]]:
    """By key: the value, the row's version, the rest, and whether it was due when the run was begun."""
    rows = query(
        url, "select id, host(ip), xmin::text, note, created < (select max(created) from backfill.runs) - interval '28 days' from logins"
    )  # fmt: skip
    return {key: (ip, due, version, note) for key, ip, version, note, due in rows}


def next_timer(operator: Operator) -> Said:
    """The server may need a moment to notice that its client is gone."""
    end = time.monotonic() + PATIENCE
    while True:
        said = operator.types(*TIMER, expect=None)
        if said.code != BUSY:
            return said
        assert time.monotonic() < end, said
        time.sleep(0.1)


def stands_at(url: str, process, phase: str, batches: int) -> bool:
    """Wait until so many batches of the phase are done, in the newest run of a timer; False when the process ended before."""
    progress = """
        select count(*) >= %s from backfill.batches
         where phase = %s and status = 'succeeded' and run_id = (select max(id) from backfill.runs having max(id) > 1)
    """
    end = time.monotonic() + PATIENCE
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        while process.poll() is None:
            assert time.monotonic() < end, "it never came to that"
            cursor.execute(progress, (batches, phase))
            if cursor.fetchone()[0]:
                return True
            time.sleep(0.002)
    return False


def killed(operator: Operator, cluster: Cluster, phase: str, batches: int, *, server: bool) -> bool:
    """Start the timer's command and kill it, or the server below it, when so much of the phase is done."""
    with ended(operator.starts(*TIMER)) as process:
        if not stands_at(operator.url, process, phase, batches):
            return False
        if server:
            cluster.end(signal.SIGKILL)
        process.kill()
        process.wait()
    if server:
        cluster.start()
        cluster.wait()
    return True


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([("link", 2, False)], id="client"),
        pytest.param(
            [("resolve", 1, False), ("link", 1, True), ("link", 3, False), ("link", 6, True)],
            id="client-and-server",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_due_run_that_is_killed_is_ended_by_the_next_timers(
    cluster: Cluster, home: Path, tmp_path: Path, kills: list[tuple[str, int, bool]]
) -> None:
    url = cluster.url()
    query(url, SCHEMA)
    job = {"table": "logins", "raw": "ip", "becomes": "pseudonym", "unreadable": "refuse", "time": "created", "after": f"{DAYS} days", "max_due": ROWS}  # fmt: skip
    operator = rewritten.operator(url, home, rewritten.plan_file(tmp_path, job))
    before = dict(query(url, "select id, host(ip) from logins"))
    rewritten.run(operator, "--due", "--quiet")  # the consent, which the runs of a timer have behind them
    query(url, FILL.format(rows=ROWS))
    before |= dict(query(url, "select id, host(ip) from logins where id > 1"))

    done: dict[int, str] = {}
    happened = 0
    for phase, batches, server in kills:
        happened += killed(operator, cluster, phase, batches, server=server)
        now = shown(url)
        written = {key: version for key, (ip, _, version, _) in now.items() if ip != before[key] and key > 1}
        assert done.items() <= written.items(), "a row that was done was written again"
        done = written
        # It gets due while nothing runs: not for this run, which has its moment.
        query(
            url,
            "insert into logins (ip, created, note) select '9.9.9.9', max(created) - interval '28 days' + interval '1 ms', 'young' from backfill.runs where strategy = 'due'",
        )
        before |= {key: "9.9.9.9" for (key,) in query(url, "select id from logins where note = 'young'")}
    assert happened == len(kills)
    assert 0 < len(done) < ROWS

    said = next_timer(operator)
    assert said.code == 0, said
    assert "Resuming run" in said.out + said.err
    assert query(url, "select status, count(*) from backfill.runs group by 1") == [("succeeded", 2)]
    ((prefix,),) = query(url, "select prefix from backfill.pseudonym_prefixes")
    ours = Salt(rewritten.SALT, source="test").pseudonyms(prefix)
    now = shown(url)
    assert {key: version for key, (_, _, version, _) in now.items()}.items() >= done.items()
    for key, (ip, due, _, note) in now.items():
        assert ip == (ours.pseudonym(before[key]) if due else before[key]), note
        assert note == "young" or note == "x" * 250 + str(key)
    assert sum(note == "young" and not due for _, due, _, note in now.values()) == len(kills)
    operator.types("status", "--due", expect=1)
    # The next one has a moment of its own, and does those.
    assert re.search(rf"{len(kills)} rows? (is|are) due", next_timer(operator).out)
    operator.types("status", "--due")
    operator.types("verify")

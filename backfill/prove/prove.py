"""Prove: catalog, pages, bytes, as deep as asked for and as privileges allow; then what is out of reach."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine

from backfill.errors import FolderUnfit
from backfill.hashing.pseudonym import Pseudonyms
from backfill.plan import Plan
from backfill.prove import bytes as byte_search
from backfill.prove import catalog, external_copies, pages, relation_files
from backfill.prove.files import Files, LocalFiles, checkpoint, files_of
from backfill.prove.finding import Depth, Evidence, ExternalCopy, Finding, State
from backfill.prove.recognise import Recogniser

ERASE = "`backfill erase"
STATISTICS = "table pg_catalog.pg_statistic"

Hasher = Callable[[str], str]
Tell = Callable[[str], None]


def prove(
    engine: Engine,
    schema: str,
    plan: Plan,
    key_id: str,
    *,
    hasher: Hasher | None,
    pseudonyms: Pseudonyms | None = None,
    depth: Depth = Depth.BYTES,
    pgdata: Path | None = None,
    standbys: Sequence[str] = (),
    expires: Mapping[str, str] | None = None,
    tell: Tell = lambda line: None,
) -> Evidence:
    """Look at everything; writes nothing. *pgdata*: read files there instead of the server's."""
    deep = list(Depth).index(depth)
    with engine.connect() as connection, connection.begin() as transaction:
        findings = list(catalog.search_catalog(connection, schema, plan, plan.fingerprint(key_id)))
        flushed = checkpoint(connection) if deep else True
        files = _files(connection, pgdata) if deep else None
        if deep >= 1:
            findings += pages.search_pages(connection, plan, files, from_files=pgdata is not None)
        if deep >= 2:
            recogniser = Recogniser(connection, plan, key_id, hasher, pseudonyms)
            places = whereabouts_of(connection, files, elsewhere=pgdata is not None)
            findings += _bytes(files, places, recogniser, flushed, tell, _memory(connection))
        others = external_copies.database_count(connection)
        if others:
            what = f"{others} other database{'s' if others > 1 else ''} of this cluster: not looked into"
            findings.append(
                Finding(Depth.CATALOG, "other databases", State.NOTE, what, "prove each by its own URL")
            )
        left = external_copies.search_external_copies(connection, plan, standbys, expires or {})
        transaction.rollback()  # pageinspect goes with it, if it was made for us
    if any(one.act == catalog.DROP for one in findings):
        return _before_the_drop(findings, left)
    findings = _beside_live_values(findings, plan)
    return Evidence(tuple(findings), left)


def _before_the_drop(findings: Sequence[Finding], left: Sequence[ExternalCopy]) -> Evidence:
    """While a column stands, statistics and WAL of it come again after every rewrite: it has to go first."""
    ahead = f"when no raw column is left: {catalog.DROP}"
    return Evidence(
        tuple(
            replace(one, act=ahead) if one.depth is Depth.BYTES and ERASE in one.act else one
            for one in findings
        ),
        tuple(replace(one, until=ahead) if ERASE in one.until else one for one in left),
    )


def _beside_live_values(findings: Sequence[Finding], plan: Plan) -> list[Finding]:
    """What is found stays found. But where a column stays with values that are not due, these are counted as well, and
    come again after every rewrite: once the pages show the rewrite, another one is no advice."""
    waiting = {one.where for one in findings if one.act == catalog.NOT_DUE}
    names = {job.name for job in plan.in_place_jobs if f"{job.name}.{job.raw}" in waiting}
    if not names:
        return list(findings)
    states = {one.where: one.state for one in findings if one.depth is Depth.PAGES}
    rewritten = {name for name in names if states.get(name) is State.GONE}
    own = tuple(f" of {name}" for name in rewritten)
    # Those of the server's statistics are of all tables: all have to be rewritten.
    places = {f"table {name}" for name in rewritten} | ({STATISTICS} if rewritten == names else set())
    return [
        replace(one, act=f"values that are not due count as well; {catalog.NOT_DUE}")
        if ERASE in one.act and (one.where in places or one.where.endswith(own))
        else one
        for one in findings
    ]


def prove_folder(pgdata: Path, plan: Plan, key_id: str, tell: Tell) -> Evidence:
    """A data folder without its server: bytes alone, and no address of it can be recognised."""
    files = LocalFiles(_checked(pgdata))
    recogniser = Recogniser(None, plan, key_id, None)
    places = [*relation_files.everything(files), *relation_files.elsewhere(files)]
    return Evidence(tuple(byte_search.search_bytes(files, iter(places), recogniser, tell)), ())


def whereabouts_of(
    connection: Connection, files: Files | None, *, elsewhere: bool = False
) -> Iterator[relation_files.Place]:
    """Relations, then the cluster's own files. *elsewhere*: the folder is not the server's own."""
    if files is not None:
        for place in relation_files.relations(connection, files):
            yield replace(place, unlogged=None) if elsewhere else place
        yield from relation_files.elsewhere(files)


def _bytes(
    files: Files | None,
    places: Iterator[relation_files.Place],
    recogniser: Recogniser,
    flushed: bool,
    tell: Tell,
    memory: byte_search.Memory | None,
) -> Iterator[Finding]:
    if files is None:
        what = "reading files takes a superuser, pg_read_server_files, or the data folder on this machine"
        yield Finding(
            Depth.BYTES,
            "files",
            State.UNPROVED,
            what,
            "ask who has the files to `backfill prove --pgdata PATH`",
        )
        return
    if not flushed:
        what = "no CHECKPOINT for this role: pages changed since the last one were read as they were before"
        yield Finding(
            Depth.BYTES, "shared buffers", State.UNPROVED, what, "checkpoint as a superuser, then again"
        )
    if recogniser.blind:
        what = f"what {', '.join(recogniser.blind)} became does not tell which addresses were there, so every public one counts"
        yield Finding(Depth.BYTES, "recognition", State.NOTE, what)
    elif not recogniser.able:
        what = "no salt: addresses of this database cannot be told from others, so every public one counts"
        yield Finding(Depth.BYTES, "recognition", State.NOTE, what, "set BACKFILL_IP_SALT")
    yield from byte_search.search_bytes(files, places, recogniser, tell, memory)


def _memory(connection: Connection) -> byte_search.Memory | None:
    """The way to what the server has in memory; ``None`` without pageinspect."""
    inspect = pages.pageinspect(connection)
    return None if inspect is None else partial(pages.in_memory, connection, inspect)


def _files(connection: Connection, pgdata: Path | None) -> Files | None:
    return LocalFiles(_checked(pgdata)) if pgdata else files_of(connection)


def _checked(pgdata: Path) -> Path:
    if not (pgdata / "PG_VERSION").is_file():
        raise FolderUnfit(
            path=pgdata, problem="it has no PG_VERSION, so it is not the data folder of a PostgreSQL"
        )
    return pgdata

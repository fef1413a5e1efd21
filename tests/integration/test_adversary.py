"""An adversary with a superuser's tools: before erase they give every address back, after it none.

pageinspect, and where it is installed Debian's postgresql-15-dirtyread, on a PostgreSQL 15 of its own.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from backfill.addresses import Reason, canonicalise
from backfill.embedded import EmbeddedServer
from backfill.embedded.binaries import Binaries
from tests.conftest import temporary_home
from tests.databases import query
from tests.demo_template import TABLES, environment, fill_demo
from tests.operator import Operator

DEBIAN = Path("/usr/lib/postgresql/15/bin")
DIRTYREAD = Path("/usr/share/postgresql/15/extension/pg_dirtyread.control")
REPACK = DEBIAN / "pg_repack"

RAW = {
    **dict.fromkeys(TABLES, "ip_address_string"),
    "ip_addresses": "ip_address",
    "journals": "submitted_from",
}


def raw_values(url: str, table: str) -> set[str]:
    """What an honest reader finds while the column stands."""
    column = "host(ip_address)" if table == "ip_addresses" else RAW[table]
    return {
        text
        for (text,) in query(url, f"select distinct {column} from {table} where {RAW[table]} is not null")
    }


def sure(texts: set[str]) -> set[str]:
    """Those that are addresses, so that finding their bytes means something."""
    return {text for text in texts if not isinstance(canonicalise(text), Reason) and len(text) > 8}


def dropped(url: str, table: str) -> int:
    found = query(
        url,
        f"select attnum from pg_attribute where attrelid = '{table}'::regclass and attnum > 0 and attisdropped",
    )
    assert len(found) == 1
    return found[0][0]


def attributes_by_pageinspect(url: str, table: str) -> list[bytes]:
    """The dropped attribute of every row version, live or dead, as it lies in the page."""
    query(url, "create extension if not exists pageinspect schema public")
    found = query(
        url,
        f"""select t_attrs[{dropped(url, table)}]
              from generate_series(0, pg_relation_size('{table}') / 8192 - 1) as block,
                   heap_page_item_attrs(get_raw_page('{table}', block::int), '{table}'::regclass) as item
             where lp_flags = 1 and t_attrs[{dropped(url, table)}] is not null""",
    )
    return [bytes(value) for (value,) in found]


def pages(url: str, table: str) -> bytes:
    """Every page, free space and all."""
    query(url, "create extension if not exists pageinspect schema public")
    found = query(
        url,
        f"select get_raw_page('{table}', block::int) from generate_series(0, pg_relation_size('{table}') / 8192 - 1) as block",
    )
    return b"".join(bytes(page) for (page,) in found)


@pytest.mark.usefixtures("still_server")
def test_pageinspect_gives_every_address_back_before_erase_and_none_after(operator_of):
    proved, migrated = operator_of("proved"), operator_of("migrated")
    expected = {table: raw_values(proved.url, table) for table in RAW}
    for table in (*TABLES, "journals"):
        found = attributes_by_pageinspect(migrated.url, table)
        texts = {value[1:].decode() for value in found if value[0] & 1}  # a short header: one byte of length
        assert sure(expected[table]) <= texts, table
        content = pages(migrated.url, table)
        assert all(text.encode() in content for text in sure(expected[table]))
    assert len(attributes_by_pageinspect(migrated.url, "ip_addresses")) >= len(expected["ip_addresses"])
    migrated.types("erase")
    for table in RAW:
        assert attributes_by_pageinspect(migrated.url, table) == []
        content = pages(migrated.url, table)
        assert [text for text in sure(expected[table]) if text.encode() in content] == []


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """A demo on a PostgreSQL 15 of its own, with the raw columns dropped; values are in ``before``."""
    if not (DEBIAN / "postgres").exists():
        pytest.skip("Debian's postgresql-15 is not installed: this adversary could not be tried here")
    with pytest.MonkeyPatch.context() as patch, temporary_home() as home:
        patch.setattr(Binaries, "find", lambda: Binaries(DEBIAN, "15.0"))
        url = EmbeddedServer(home).ensure()
        query(url, "alter system set autovacuum = off")  # or it writes the other copies to the common WAL
        query(url, "select pg_reload_conf()")
        fill_demo(url, 1_000)
        operator = Operator(url, environment(url, tmp_path_factory.mktemp("home")))
        operator.types("run", "--quiet")
        operator.settles_everything()
        operator.types("verify")
        for table in RAW:
            query(
                url,
                f"create table public.before_{table} as select distinct {RAW[table]}::text as text from {table} where {RAW[table]} is not null",
            )
        operator.migrates()
        yield operator
        EmbeddedServer(home).stop()


@pytest.fixture
def copy_of_debian(debian: Operator) -> Iterator[Operator]:
    """A database of that server, as the migration left it."""
    source = debian.url.replace("/backfill?", "/postgres?")
    query(source, "create database attacked template backfill")
    url = debian.url.replace("/backfill?", "/attacked?")
    yield Operator(url, environment(url, debian.variables["BACKFILL_HOME"]))
    query(source, "drop database attacked with (force)")


def by_dirtyread(url: str, table: str) -> set[str]:
    """What pg_dirtyread makes of the dropped column: live rows, dead rows, all of them."""
    query(url, "create extension if not exists pg_dirtyread schema public")
    number = dropped(url, table)
    kind = "inet" if table == "ip_addresses" else "text"
    found = query(
        url,
        f"select distinct dropped_{number}::text from pg_dirtyread('{table}') as row (dropped_{number} {kind})",
    )
    return {text for (text,) in found if text is not None}


def test_dirtyread_gives_every_address_back_before_erase_and_none_after(copy_of_debian):
    if not DIRTYREAD.exists():
        pytest.skip("postgresql-15-dirtyread is not installed: this adversary could not be tried here")
    url = copy_of_debian.url
    for table in RAW:
        expected = {text for (text,) in query(url, f"select text from before_{table}")}
        assert expected
        assert expected <= by_dirtyread(url, table), table
    copy_of_debian.types("erase")
    assert {table: by_dirtyread(url, table) for table in RAW} == {table: set() for table in RAW}


def test_the_proof_holds_on_postgresql_15(copy_of_debian):
    for table in RAW:  # the memory of this test itself
        query(copy_of_debian.url, f"drop table before_{table}")
    copy_of_debian.types("prove", expect=1)
    copy_of_debian.types("erase")
    copy_of_debian.types("prove")


def test_pg_repack_does_the_same_beside_the_living_table(copy_of_debian):
    if not REPACK.exists() or shutil.which("runuser") is None:
        pytest.skip("postgresql-15-repack is not installed: the other way to rewrite could not be tried here")
    assert subprocess.run([REPACK, "--version"], check=False, capture_output=True).returncode == 0
    url = copy_of_debian.url
    query(url, "create extension pg_repack schema public")
    said = copy_of_debian.types("erase", "--dry-run")
    assert "pg_repack" in said.out
    assert "two short locks" in said.out
    copy_of_debian.types("erase")
    assert {
        row for (row,) in query(url, "select distinct method from backfill.erasures where kind = 'table'")
    } == {"pg_repack"}
    assert {table: attributes_by_pageinspect(url, table) for table in RAW} == {table: [] for table in RAW}
    assert copy_of_debian.types("prove", "--depth", "pages").code == 0

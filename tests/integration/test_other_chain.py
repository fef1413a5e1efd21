"""The example of docs/migrate.md, as it stands there, inside the Alembic history of another application."""

import io
import os
import re
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from alembic.config import Config
from alembic.util import CommandError

from alembic import command
from backfill.database import lock_retry
from tests.databases import connect, query
from tests.integration.test_damage import link_elsewhere, some
from tests.names import guard
from tests.operator import ROOT, Operator

ENV = """
import os
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool
from alembic import context

if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql", literal_binds=True, version_table_schema="public", transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    url = make_url(os.environ["BACKFILL_DATABASE_URL"]).set(drivername="postgresql+psycopg2")
    with create_engine(url, poolclass=NullPool).connect() as connection:
        context.configure(
            connection=connection, version_table_schema="public", transaction_per_migration=True
        )
        with context.begin_transaction():
            context.run_migrations()
"""
BASE = 'revision = "d0a1b2c3e4f5"\ndown_revision = None\ndef upgrade(): pass\ndef downgrade(): pass\n'


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Another application's alembic folder: its history so far, and our example on top."""
    versions = tmp_path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text(ENV)
    (versions.parent / "script.py.mako").write_text("")
    (versions / "base.py").write_text(BASE)
    text = (ROOT / "docs" / "migrate.md").read_text()
    found = re.findall(r"<!-- example: (\w+) -->\n```python\n(.*?)```", text, re.DOTALL)
    assert [name for name, _ in found] == ["guard", "validate", "drop"]
    for name, code in found:
        (versions / f"{name}.py").write_text(code)
    return versions.parent


def upgrade(
    operator: Operator, chain: Path, to: str, *, sql: bool = False, down: bool = False, aloud: bool = False
) -> str:
    """``alembic upgrade TO`` there; the script, or what it said *aloud*."""
    written, said = io.StringIO(), io.StringIO()
    config = Config(stdout=said, output_buffer=written)
    config.set_main_option("script_location", str(chain))
    config.set_main_option("path_separator", "os")
    with mock.patch.dict(os.environ, operator.variables):
        if down:
            command.downgrade(config, to)
        else:
            command.upgrade(config, to, sql=sql)
    return (said if aloud else written).getvalue()


def version(operator: Operator) -> str:
    return query(operator.url, "select version_num from public.alembic_version")[0][0]


def test_the_example_drops_the_column_and_keeps_to_its_own_version_table(
    proved_run: Operator, chain: Path
) -> None:
    named = proved_run.having(restore_point="nightly")
    upgrade(named, chain, "head")
    assert version(named) == "f00000000003"
    assert query(named.url, "select version_num from backfill.alembic_version") == [("0001_expand",)]
    assert query(named.url, "select count(*) from information_schema.columns where table_name = 'user_events' and column_name = 'ip_address_string'") == [(0,)]  # fmt: skip
    assert query(named.url, "select detail ->> 'restore point' from backfill.decisions where kind = 'drop'") == [("nightly",)]  # fmt: skip
    query(
        named.url,
        "insert into user_events (source_id, tag) select source_id, 'after' from user_events limit 1",
    )
    upgrade(named, chain, "f00000000002", down=True)
    assert version(named) == "f00000000002"


def test_it_refuses_as_ours_does_and_leaves_everything_as_it_was(proved_run: Operator, chain: Path) -> None:
    with pytest.raises(CommandError, match="restore point: none was named"):
        upgrade(proved_run, chain, "head")
    assert version(proved_run) == "f00000000002"
    named = proved_run.having(restore_point="nightly")
    query(named.url, f"alter table user_events disable trigger {guard('user_events')}")
    link_elsewhere(named, some(named, 1))
    with pytest.raises(CommandError, match="links of user_events"):
        upgrade(named, chain, "head")
    assert version(named) == "f00000000002"
    named.types("repair", "user_events", "--kind", "link", "--count", 1)
    named.types("verify")
    with pytest.raises(CommandError, match="guard of user_events"):
        upgrade(named, chain, "head")


def test_a_lock_that_is_not_had_is_a_refusal_and_names_who_holds_it(
    proved_run: Operator, chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_retry, "ATTEMPTS", 2)
    named = proved_run.having(restore_point="nightly")
    with closing(connect(named.url, autocommit=False)) as reader:
        reader.cursor().execute("select count(*) from user_events")
        pid = reader.info.backend_pid
        with pytest.raises(CommandError) as refusal:
            upgrade(named, chain, "f00000000001")
    said = str(refusal.value)
    assert "user_events could not be locked in 2 tries. In the way: session " + str(pid) in said
    assert "Nothing of this revision was done" in said
    assert "\n" not in said
    upgrade(named, chain, "f00000000001")


def test_its_script_carries_gates_and_predecessor(proved_run: Operator, chain: Path) -> None:
    named = proved_run.having(restore_point="nightly", observe="0")
    script = upgrade(named, chain, "d0a1b2c3e4f5:head", sql=True)
    assert "revision f00000000003 begins at f00000000002" in script
    assert script.count("backfill refuses: drop user_events.ip_address_string: links of user_events") == 1
    assert script.index("begins at f00000000002") < script.index("drop column")


def test_a_column_that_the_plan_does_not_name_is_not_dropped(proved_run: Operator, chain: Path) -> None:
    drop = chain / "versions" / "drop.py"
    drop.write_text(drop.read_text().replace('drop_column("user_events", "ip_address_string")', 'drop_column("users", "name")'))  # fmt: skip
    with pytest.raises(CommandError, match=r"does not say that users\.name is to go"):
        upgrade(proved_run.having(restore_point="nightly"), chain, "head")

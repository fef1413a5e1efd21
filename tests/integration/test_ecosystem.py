"""What others check migrations with: pytest-alembic's built-in tests, and squawk over the offline script."""

import json
import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_alembic
from alembic.config import Config
from pytest_alembic import tests as built_in
from pytest_alembic.config import Config as RunnerConfig
from pytest_alembic.runner import MigrationContext
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from tests.operator import BIN, ROOT, Operator

# Every drop is declared irreversible: its data is gone, and no gate opens for a column that came back
# empty. What a downgrade does give back, and that models and DDL match, test_migrations.py shows.
IRREVERSIBLE = "0005d_drop_ip_address"


@pytest.fixture
def alembic_runner(proved_run: Operator, monkeypatch: pytest.MonkeyPatch) -> Iterator[MigrationContext]:
    """pytest-alembic's runner on a proved database: an empty one has nothing that a gate would let go."""
    for name, value in proved_run.having(restore_point="nightly").variables.items():
        monkeypatch.setenv(name, value)
    engine = create_engine(
        make_url(proved_run.url).set(drivername="postgresql+psycopg2"),
        poolclass=NullPool,
        execution_options={"schema_translate_map": {None: "backfill"}},
    )
    config = RunnerConfig(
        alembic_config=Config(str(ROOT / "alembic.ini")),
        minimum_downgrade_revision=IRREVERSIBLE,
    )
    with pytest_alembic.runner(config=config, engine=engine) as runner:
        yield runner
    engine.dispose()


def test_single_head(alembic_runner: MigrationContext) -> None:
    built_in.test_single_head_revision(alembic_runner)


def test_upgrade(alembic_runner: MigrationContext) -> None:
    built_in.test_upgrade(alembic_runner)


def test_up_down_consistency(alembic_runner: MigrationContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built_in.test_up_down_consistency(alembic_runner)


# Of squawk's rules: what a finding has to look like to be accepted, and why it is.
ACCEPTED = {
    "require-lock-timeout": (
        r"create schema if not exists",
        "an empty schema of our own: nobody waits for it",
    ),
    "require-statement-timeout": (
        r"create schema if not exists",
        "VALIDATE has to read the whole table however long it takes; what takes a strong lock has a lock_timeout",
    ),
    "prefer-robust-stmts": (
        r"(?s)create table backfill\.|create trigger|constraint \"?backfill|alter column|drop column",
        "each revision is one transaction and checks where the version table stands: nothing is left half way",
    ),
    "prefer-text-field": (r"version_num", "Alembic's own version table"),
    "prefer-bigint-over-int": (
        r"attempts|passes|prefix",
        "attempts, passes, a byte: small numbers that do not grow with the data",
    ),
    "ban-drop-function": (
        r"\"?backfill\"?\.\"?(guard|seal)_",
        "our own trigger functions, which go with the column that they name",
    ),
    "ban-drop-sequence": (r"\"?backfill\"?\.\"?seal_", "our own counter of a seal"),
    "ban-drop-column": (
        r"ip_address|submitted_from",
        "it is what all this is for; the deploy checklist says when no client names the column any more",
    ),
    "ban-drop-not-null": (
        r"ip_address",
        "the application that writes addresses by hash alone is deployed after it",
    ),
    "ban-drop-constraint": (
        r"backfill_(hash_required|covered)",
        "replaced by NOT NULL, or made anew, in the same transaction",
    ),
}


def test_squawk_finds_nothing_that_is_not_accepted_with_its_reason(
    fresh_demo: Operator, tmp_path: Path
) -> None:
    named = fresh_demo.having(restore_point="nightly", observe="0")
    said = named.really_types("upgrade", "head", "--sql", tool="alembic")
    assert said.code == 0, said.err
    script = tmp_path / "chain.sql"
    script.write_text(said.out)
    words = [str(BIN / "squawk"), "--pg-version", "14.0", "--reporter", "json", str(script)]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=False).stdout)
    lines = said.out.splitlines()
    assert {one["rule_name"] for one in found} <= set(ACCEPTED)
    for one in found:
        # Lines are counted from 0; a statement of several lines begins where the finding does.
        about = "\n".join(lines[max(0, one["line"] - 1) : one["line_end"] + 1])
        pattern, _ = ACCEPTED[one["rule_name"]]
        assert re.search(pattern, about, re.IGNORECASE), (one["rule_name"], about)
    unused = set(ACCEPTED) - {one["rule_name"] for one in found}
    assert not unused, f"accepted, and not found any more: {unused}"

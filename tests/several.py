"""A database with several raw columns a table, tables of one name in two schemas, and names of every kind."""

import json
from collections.abc import Sequence
from pathlib import Path

from psycopg2 import sql

from backfill.plan import PYPI, Discard, LinkJob, Plan, load_plan
from tests.databases import query
from tests.demo_template import environment
from tests.operator import Operator

TEXTS = ["8.8.8.8", "1.1.1.1", " 8.8.4.4", "2001:4860:4860::8888", None]
ADDRESSES = """
    create table addresses (
        id bigint generated always as identity primary key, ip_address inet not null unique,
        hashed_ip_address text unique, geoip_info jsonb)
"""
ACCEPTED = f'name = "several"\naccept = {json.dumps([*(f"new-geo-key:{key}" for key in PYPI.geo.keys), "check-on-written-column:public.users.either"])}'
PART = ACCEPTED + '\n[addresses]\ntable = "addresses"\nbanned = ""\nban_reason = ""\nban_date = ""\n'
LONG = "a_name_of_63_bytes_that_agrees_with_another_in_the_first_sixty"  # 62


def job(table: str, raw: str = "ip", link: str = "ip_id", schema: str = "public", extra: str = "") -> LinkJob:
    """A job without a time."""
    return LinkJob(table=table, raw=raw, link=link, schema=schema, extra=extra or None, time=None)


def several(url: str, home: Path, folder: Path, *parts: LinkJob | Discard) -> Operator:
    """An operator of a database that has the tables of *parts*, filled, and a plan that names them."""
    query(url, ADDRESSES)
    columns: dict[tuple[str, str], dict[str, str]] = {}
    for part in parts:
        mine = columns.setdefault((part.schema_, part.table), {})
        mine[part.raw_column] = "text"
        if isinstance(part, LinkJob):
            mine[part.link] = "bigint references addresses"
            if part.extra:
                mine[part.extra] = "jsonb"
    for (schema, table), named in columns.items():
        query(url, sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        body = sql.SQL(", ").join(
            sql.SQL("{} " + kind).format(sql.Identifier(name)) for name, kind in named.items()
        )
        place = sql.Identifier(schema, table)
        query(url, sql.SQL("create table {} (id bigint generated always as identity primary key, {})").format(place, body))  # fmt: skip
        for number in range(20):
            insert(url, [part for part in parts if (part.schema_, part.table) == (schema, table)], number)
    return with_plan(url, home, folder, *parts)


def with_plan(url: str, home: Path, folder: Path, *parts: LinkJob | Discard) -> Operator:
    """An operator of a database that has those tables already."""
    plan = folder / "several.toml"
    plan.write_text(as_toml(parts), encoding="utf-8")
    return Operator(url, environment(url, home)).having(plan=str(plan))


def insert(url: str, parts: Sequence[LinkJob | Discard], number: int = 0, *, link: int | None = None) -> int:
    """A row with raw values in every column of *parts*, which share a table; its key."""
    names = [part.raw_column for part in parts]
    values: list[object] = [TEXTS[(number + place) % len(TEXTS)] for place in range(len(parts))]
    if link is not None:
        names += [part.link for part in parts if isinstance(part, LinkJob)]
        values += [link for part in parts if isinstance(part, LinkJob)]
    statement = sql.SQL("insert into {} ({}) values ({}) returning id").format(
        sql.Identifier(parts[0].schema_, parts[0].table),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(
            map(sql.Literal, values)
        ),  # no parameters: psycopg2 would look for them in the names
    )
    return query(url, statement)[0][0]


def as_toml(parts: Sequence[LinkJob | Discard]) -> str:
    """A plan file."""
    lines = [PART]
    for part in parts:
        lines.append("[[jobs]]" if isinstance(part, LinkJob) else "[[discard]]")
        for name, value in part.model_dump(by_alias=True).items():
            lines.append(f"{name} = {json.dumps(value or '', ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def plan_of(operator: Operator) -> Plan:
    """The plan of *operator*."""
    return load_plan(Path(operator.variables["BACKFILL_PLAN"]))


def chain_of(
    plan: Plan, folder: Path, env: str, *, only: Sequence[str] = ("guard", "validate", "drop")
) -> Path:
    """A chain of the application's own: guard, validate and drop for each job, and each discard; by identity."""
    versions = folder / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parent / "env.py").write_text(env)
    (versions.parent / "script.py.mako").write_text("")
    steps = [f"guard_links({job.identity!r})" for job in plan.jobs if "guard" in only]
    steps += [f"validate_links({job.identity!r})" for job in plan.jobs if "validate" in only]
    if "drop" in only:
        steps += [
            f"drop_column({part.table_identity!r}, {part.raw_column!r})"
            for part in (*plan.jobs, *plan.discard)
        ]
    for number, step in enumerate(steps, 1):
        before = f"'{number - 1:03}'" if number > 1 else None
        (versions / f"r{number:03}.py").write_text(
            f"from backfill.gates import *\nrevision = '{number:03}'\ndown_revision = {before}\n"
            f"def upgrade(): {step}\ndef downgrade(): pass\n",
            encoding="utf-8",
        )
    return versions.parent

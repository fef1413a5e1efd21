"""What the event tables' ``tag`` and ``additional`` hold, in the words of PyPI's application."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backfill.database import binary_copy

_AGENTS = (
    {"installer": "Browser", "device": "Other", "os": "Linux", "user_agent": "Firefox"},
    {"installer": "Browser", "device": "Mac", "os": "Mac OS X", "user_agent": "Safari"},
    {"installer": "Browser", "device": "Other", "os": "Windows", "user_agent": "Chrome"},
    {"installer": "pip", "implementation": "CPython", "system": "Linux"},
    {"installer": "twine", "implementation": "CPython", "system": "Darwin"},
)

# What some forgotten script left where an object belongs; not ours to mend, only to count.
_NO_OBJECTS: tuple[Any, ...] = (["imported", 2016], "imported", 2016, [], True)


@dataclass(frozen=True)
class EventTable:
    """One of the five event tables: its share of all events, its tags, its keys in ``additional``."""

    name: str
    share: float
    sources: str  # the table that source_id references
    tags: Sequence[str]
    objects: Sequence[dict[str, Any]]  # every key an event of this table may add


EVENT_TABLES = (
    EventTable(
        "user_events",
        0.60,
        "users",
        (
            *("account:login:success", "account:login:success", "account:login:failure", "account:create"),
            *("account:password:change", "account:email:add", "account:two_factor:method_added"),
        ),
        ({"auth_method": "basic"}, {"two_factor_method": "totp"}, {"reason": "invalid_password"}),
    ),
    EventTable(
        "project_events",
        0.20,
        "projects",
        ("project:create", "project:release:add", "project:release:add", "project:role:add"),
        ({"canonical_version": "1.0"}, {"role_name": "Maintainer"}, {"publisher_url": None}),
    ),
    EventTable(
        "file_events",
        0.12,
        "release_files",
        ("file:add", "file:add", "file:remove"),
        ({"canonical_version": "2.1"}, {"publisher_url": None, "filetype": "bdist_wheel"}),
    ),
    EventTable(
        "organization_events",
        0.05,
        "organizations",
        ("organization:create", "organization:approve", "organization:role:add"),
        ({"redact_ip": False}, {"role_name": "Owner"}),
    ),
    EventTable(
        "team_events",
        0.03,
        "teams",
        ("team:create", "team:role:add", "team:role:remove"),
        ({"role_name": "Member"}, {"project_name": "demo"}),
    ),
)


def shares(events: int) -> dict[str, int]:
    """Rows for each event table; they add up to *events*, the largest table takes the rounding."""
    rows = {table.name: int(events * table.share) for table in EVENT_TABLES}
    rows[EVENT_TABLES[0].name] += events - sum(rows.values())
    return rows


def open_documents(table: EventTable) -> list[bytes]:
    """JSON objects as text without the closing brace, so that geo can still be added; one is empty."""
    plain = [{**keys, "user_agent_info": agent} for keys in table.objects for agent in _AGENTS]
    return [json.dumps(one).encode()[:-1] for one in ({}, *table.objects, *plain)]


def close_document(document: bytes, geo: bytes | None) -> bytes:
    """The ``jsonb`` field of an open document, with geo in it or without."""
    if geo is None:
        return binary_copy.jsonb(document + b"}")
    comma = b"" if document == b"{" else b", "
    return binary_copy.jsonb(document + comma + b'"geoip_info": ' + geo + b"}")


JSON_NULL = binary_copy.jsonb(b"null")  # what SQLAlchemy writes for None unless told otherwise
NO_OBJECTS = tuple(binary_copy.jsonb(json.dumps(value).encode()) for value in _NO_OBJECTS)

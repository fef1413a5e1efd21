"""Databases for tests: created, cloned from templates that are filled once, dropped."""

import uuid
from collections.abc import Callable
from contextlib import closing

import psycopg2
from psycopg2 import sql
from sqlalchemy import make_url


def dsn(url: str) -> str:
    """*url* as libpq takes it."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return plain.replace("+", "%20")  # SQLAlchemy's spaces


def connect(url: str, *, autocommit: bool = True):
    """A psycopg2 connection to *url*; wrap it in ``closing``, an open one fails the test run."""
    connection = psycopg2.connect(dsn(url))
    connection.autocommit = autocommit
    return connection


def query(url: str, statement: str, *values: object) -> list[tuple]:
    """The rows of one statement in a session of its own; none for a statement that returns none."""
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        if (cursor.statusmessage or "").startswith("SELECT ") and not cursor.description:
            return [()] * cursor.rowcount  # "select from …": rows without columns are rows all the same
        return cursor.fetchall() if cursor.description else []


class Databases:
    """The databases of one server. Names are unique, so that several test runs can share it."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self._templates: dict[str, str] = {}
        self._created: set[str] = set()

    def url(self, database: str) -> str:
        """The URL of *database* on this server."""
        return make_url(self.server_url).set(database=database).render_as_string(hide_password=False)

    def create(self) -> str:
        """A fresh empty UTF-8 database; returns its URL."""
        return self.url(self._create("template0"))

    def template(self, name: str, fill: Callable[[str], None], origin: str | None = None) -> str:
        """The template called *name*, made by ``fill(url)`` the first time it is asked for.

        It begins empty, or as a copy of the template called *origin*.
        """
        if name not in self._templates:
            database = self._create(self._templates[origin] if origin else "template0")
            fill(self.url(database))
            self._templates[name] = database
        return name

    def clone(self, template: str) -> str:
        """A copy of a template made before; returns its URL. Nobody may be connected to the template."""
        return self.url(self._create(self._templates[template]))

    def copy(self, url: str) -> str:
        """A copy of the database of *url*, to which nobody may be connected; returns its URL."""
        return self.url(self._create(str(make_url(url).database)))

    def drop(self, url: str) -> None:
        """Drop the database of *url*, ending the sessions that a test left in it."""
        name = make_url(url).database
        query(
            self.server_url,
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)),
        )
        self._created.discard(name)

    def drop_all(self) -> None:
        """Drop every database made here, templates included."""
        for name in list(self._created):
            self.drop(self.url(name))

    def _create(self, origin: str) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        with closing(connect(self.server_url)) as connection, connection.cursor() as cursor:
            # Its files are copied, not written again and logged: half of the CPU time, and no WAL. Before 15 it is so anyway.
            how = "strategy file_copy" if connection.server_version >= 150_000 else ""
            cursor.execute(
                sql.SQL("create database {} template {} encoding 'UTF8' {}").format(
                    sql.Identifier(name), sql.Identifier(origin), sql.SQL(how)
                )
            )
        self._created.add(name)
        return name

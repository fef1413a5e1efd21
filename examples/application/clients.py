"""Upsert and ban check by hash, and what they were before: what has to be deployed before which revision."""

from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from backfill.web import Client
from examples.application.tables import ip_addresses

row = ip_addresses.c
TRIES = 3  # the row that is in the way may be deleted before it is read


class NoRow(Exception):
    """No row could be had for a client, although nothing seems to be in the way."""


def row_by_address(connection: Connection, client: Client) -> UUID:
    """Release 1: the row of the client's address, made or brought up to date. Needs ``keep_address``."""
    values = {"hashed_ip_address": client.hash, "geoip_info": client.place}
    return connection.execute(
        insert(ip_addresses)
        .values(ip_address=client.address, **values)
        .on_conflict_do_update(index_elements=[row.ip_address], set_=values)
        .returning(row.id)
    ).scalar_one()


def row_by_hash(connection: Connection, client: Client) -> UUID:
    """From release 2 on, deployed before 0005b: the row of the client's hash, made or brought up to date.

    Without a conflict target: release 1 runs beside release 2 for a while, and either unique key may be in the
    way. While the middleware keeps the address it is written as well, since the column is NOT NULL until 0005a.
    """
    known = {} if client.address is None else {"ip_address": client.address}
    for _ in range(TRIES):
        made = insert(ip_addresses).values(hashed_ip_address=client.hash, geoip_info=client.place, **known)
        found = connection.scalar(made.on_conflict_do_nothing().returning(row.id))
        if found is not None:
            return found
        found = connection.scalar(select(row.id).where(row.hashed_ip_address == client.hash))
        if found is None and known:  # a row from before the backfill, which has no hash yet
            unhashed = (row.ip_address == client.address) & row.hashed_ip_address.is_(None)
            hashed = update(ip_addresses).where(unhashed).values(hashed_ip_address=client.hash)
            found = connection.scalar(hashed.returning(row.id))
        if found is not None:
            if client.place:
                other = row.geoip_info.is_distinct_from(client.place)
                placed = update(ip_addresses).where(row.id == found, other).values(geoip_info=client.place)
                connection.execute(placed)
            return found
    raise NoRow


def is_banned_by_address(connection: Connection, client: Client) -> bool:
    """Release 1."""
    banned = select(row.id).where(row.ip_address == client.address, row.is_banned)
    return connection.scalar(banned) is not None


def is_banned(connection: Connection, client: Client) -> bool:
    """From release 2 on: under any key id, so that a ban survives a rotation of the salt."""
    banned = select(row.id).where(row.hashed_ip_address.in_(client.hashes), row.is_banned).limit(1)
    return connection.scalar(banned) is not None


def ban(connection: Connection, client: Client) -> None:
    """Ban whoever has the client's hash, seen before or not."""
    connection.execute(
        update(ip_addresses)
        .where(row.id == row_by_hash(connection, client), ~row.is_banned)
        .values(is_banned=True, ban_reason="authentication-attempts", ban_date=func.now())
    )

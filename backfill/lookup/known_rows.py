"""Known rows: which row of the address table is about which question, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Address, Reason, canonicalise
from backfill.database.columns import Column
from backfill.database.connection import value
from backfill.lookup import address_rows
from backfill.lookup.address_rows import AddressRow
from backfill.lookup.hash_keys import Candidate, HashKeys, Spelling, by_hash, candidates, mapped_spelling
from backfill.lookup.question import Kind, Question
from backfill.plan import Addresses

KEPT_NETWORKS = sql.SQL("""
    select exists (select from {} where kind = 'keep' and detail ->> 'what' = 'networks')
""")


@dataclass(frozen=True)
class KnownRow:
    """A row of the address table that is about a question."""

    row: AddressRow
    by: tuple[str, ...]  # raw address, hash, key: whichever found it
    key_id: str | None  # under which its hash is one of the address; none: none that was asked, or not known
    spelling: Spelling | None  # of which its hash is one, or its raw address

    @property
    def of_network(self) -> bool:
        """Whether it is about many addresses, this one among them."""
        return self.spelling is Spelling.NETWORK


def address_of(row: AddressRow) -> Address | None:
    """The one address that the row's raw value is."""
    address = Reason.EMPTY if row.host is None or row.is_network else canonicalise(row.host)
    return None if isinstance(address, Reason) else address


def find(
    connection: Connection,
    part: Addresses,
    schema: str,
    known: Mapping[str, Column],
    keys: HashKeys,
    questions: Sequence[Question],
) -> list[list[KnownRow]]:
    """For each question, its rows. *known*: the columns that the address table has."""
    raw = part.address in known
    addresses = list(dict.fromkeys(one.address for one in questions if one.address is not None))
    # A network that was kept has the hash of its own spelling, which is all that is left of it once the column is gone.
    hashes = by_hash(addresses, keys, networks=not raw and _kept_networks(connection, schema))
    asked_hashes = {one.named for one in questions if one.kind is Kind.HASH}
    asked_keys = {one.named for one in questions if one.kind is Kind.ROW}
    texts = {str(one) for one in addresses} | {one for one in map(mapped_spelling, addresses) if one}
    address_rows.stage(
        connection, [*hashes, *(asked_hashes - hashes.keys())], sorted(texts), sorted(asked_keys)
    )
    found = address_rows.find_rows(connection, part, known, schema)
    networks = [(row, _network(row)) for row in found if row.is_network]
    exact: dict[Address | str, list[KnownRow]] = {}
    for row in found:
        for name, one in _known(row, hashes, asked_hashes, asked_keys, keys):
            exact.setdefault(name, []).append(one)
    answers = []
    for question in questions:
        mine = list(exact.get(question.address or question.named, ()))
        if question.address is not None:
            wide = _widened(question.address)
            mine += [
                KnownRow(row, ("raw address",), None, Spelling.NETWORK)
                for row, network in networks
                if question.address in network or (wide is not None and wide in network)
            ]
        answers.append(mine)
    return answers


def _known(
    row: AddressRow,
    hashes: Mapping[str, list[tuple[Address, Candidate]]],
    asked_hashes: set[str],
    asked_keys: set[str],
    keys: HashKeys,
) -> list[tuple[Address | str, KnownRow]]:
    """By address, hash or key, what the row is to each that was asked."""
    address = address_of(row)
    by: dict[Address, list[str]] = {} if address is None else {address: ["raw address"]}
    why: dict[Address, Candidate] = {}
    for of, candidate in hashes.get(row.hash or "", ()):
        by.setdefault(of, []).append("hash")
        why.setdefault(of, candidate)
    found: list[tuple[Address | str, KnownRow]] = []
    for of, ways in by.items():
        one = why.get(of)
        spelling = one.spelling if one else Spelling.CANONICAL
        if of == address and of.version == 4 and ":" in (row.host or ""):
            spelling = Spelling.MAPPED
        found.append((of, KnownRow(row, tuple(ways), one.key_id if one else None, spelling)))
    for asked, named, way in ((asked_hashes, row.hash, "hash"), (asked_keys, row.key, "key")):
        if named in asked:
            own = _explained(row, address, keys)
            of_what = own.spelling if own else Spelling.NETWORK if row.is_network else None
            found.append((named, KnownRow(row, (way,), own.key_id if own else None, of_what)))
    return found


def _explained(row: AddressRow, address: Address | None, keys: HashKeys) -> Candidate | None:
    """Which hash of its own address the row carries."""
    if address is None:
        return None
    return next((one for one in candidates(address, keys, networks=False) if one.hash == row.hash), None)


def _network(row: AddressRow) -> IPv4Network | IPv6Network:
    return ip_network(f"{row.host}/{row.bits}", strict=False)


def _widened(address: Address) -> IPv6Address | None:
    mapped = mapped_spelling(address)
    return IPv6Address(mapped) if mapped else None


def _kept_networks(connection: Connection, schema: str) -> bool:
    return address_rows.has_table(connection, schema, "decisions") and bool(
        value(connection, KEPT_NETWORKS.format(sql.Identifier(schema, "decisions")))
    )

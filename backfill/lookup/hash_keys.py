"""Hash keys: under which salts the hashes of an address are asked for, and which known ones cannot be."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Address
from backfill.database.connection import rows, value
from backfill.errors import KeyIdUnknown
from backfill.hashing.salt import Salt
from backfill.hashing.schemes import scheme_named
from backfill.hashing.sha256 import SHA256_UNSALTED
from backfill.ledger import keys

KEYS = sql.SQL("select key_id from {} order by created, key_id")


@dataclass(frozen=True)
class HashKey:
    """A key id with its salt inside a function."""

    key_id: str
    hasher: Callable[[str], str]
    on_record: bool  # else nothing says that the salt is the one that this id stands for


@dataclass(frozen=True)
class HashKeys:
    """The key ids that are asked, the current one first, and those on record whose salt is not given."""

    scheme: str
    asked: tuple[HashKey, ...]
    not_asked: tuple[str, ...]


class Spelling(StrEnum):
    """Of what a stored hash is."""

    CANONICAL = "address"
    MAPPED = "IPv4-mapped spelling"  # of a duplicate that was merged
    UNSALTED = "address, without a salt"  # by an edge that forgot it
    NETWORK = "network"


@dataclass(frozen=True)
class Candidate:
    """A hash that a row about the address may carry."""

    hash: str
    key_id: str | None
    spelling: Spelling


def known_key_ids(connection: Connection, schema: str) -> list[str]:
    """Those on record; none where there is no ledger yet."""
    if not value(connection, sql.SQL("select to_regclass(%s) is not null"), (f"{schema}.keys",)):
        return []
    return [key for (key,) in rows(connection, KEYS.format(sql.Identifier(schema, "keys")))]


def open_keys(
    connection: Connection, schema: str, scheme: str, current: str, salts: Mapping[str, Salt]
) -> HashKeys:
    """Raises ``SaltMismatch`` and, for a salt of an id that is neither *current* nor on record, ``KeyIdUnknown``."""
    known = known_key_ids(connection, schema)
    asked = []
    for key_id in sorted(salts, key=lambda key: (key != current, key)):
        if key_id != current and key_id not in known:
            raise KeyIdUnknown(key_id=key_id, known=", ".join(known) or "none")
        on_record = key_id in known and keys.check_key(connection, key_id, salts[key_id])
        asked.append(HashKey(key_id, salts[key_id].hasher(scheme), on_record))
    return HashKeys(scheme, tuple(asked), tuple(key for key in known if key not in salts))


def candidates(address: Address, known: HashKeys, *, networks: bool) -> Iterator[Candidate]:
    """The hashes under which a row about *address* may stand; *networks*: and those of kept networks around it."""
    text = str(address)
    mapped = mapped_spelling(address)
    for key in known.asked:
        yield Candidate(key.hasher(text), key.key_id, Spelling.CANONICAL)
        if mapped:
            yield Candidate(key.hasher(mapped), key.key_id, Spelling.MAPPED)
        if networks:
            for spelled in networks_around(address):
                yield Candidate(key.hasher(spelled), key.key_id, Spelling.NETWORK)
    if known.asked and known.scheme != SHA256_UNSALTED.name:
        unsalted = scheme_named(SHA256_UNSALTED.name).digest(text.encode(), b"")
        yield Candidate(unsalted, None, Spelling.UNSALTED)


def mapped_spelling(address: Address) -> str | None:
    """The IPv4-mapped form, as PostgreSQL writes it."""
    return f"::ffff:{address}" if isinstance(address, IPv4Address) else None


def networks_around(address: Address) -> Iterator[str]:
    """Every network that holds the address, spelled as PostgreSQL does; one with host bits cannot be guessed."""
    number, bits = int(address), address.max_prefixlen
    kind: type[IPv4Address] | type[IPv6Address] = type(address)
    for length in range(bits):
        yield f"{kind(number >> (bits - length) << (bits - length))}/{length}"


def by_hash(
    addresses: Sequence[Address], known: HashKeys, *, networks: bool
) -> dict[str, list[tuple[Address, Candidate]]]:
    """Hash → the addresses whose row may carry it, and why."""
    found: dict[str, list[tuple[Address, Candidate]]] = {}
    for address in addresses:
        for one in candidates(address, known, networks=networks):
            found.setdefault(one.hash, []).append((address, one))
    return found

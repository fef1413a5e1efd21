"""Recognise: is a text that was found in the bytes an address that this database once held?

The canaries are the salted hashes that the address table keeps anyway, and those of discarded
columns, taken by ``verify`` while they stood: nothing new is stored that says more than they do.
Without the salt nothing can be recognised; every public address then counts as found.
"""

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Kind, classify
from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.ledger import canaries
from backfill.plan import Addresses
from backfill.prove.search import Group

BATCH = 5_000  # hashes a question
NOBODY = frozenset({"127.0.0.1", "0.0.0.0", "::", "::1"})  # in every configuration, nobody's address  # noqa: S104

KNOWN = sql.SQL("select {hash} from {addresses} where {hash} = any(%s)")


class Recogniser:
    """Tells addresses of this database from what merely looks like one; remembers its answers."""

    def __init__(
        self,
        connection: Connection | None,
        addresses: Addresses,
        key_id: str,
        hasher: Callable[[str], str] | None,
    ) -> None:
        self.able = connection is not None and hasher is not None
        self._connection, self._addresses, self._key_id, self._hasher = connection, addresses, key_id, hasher
        self._nobody = NOBODY | {addresses.sentinel}
        self._answers: dict[str, bool] = dict.fromkeys(self._nobody, False)

    def judge(self, found: Iterable[Group]) -> tuple[int, int]:
        """How many places hold an address of ours, and how many one that we do not know."""
        places = list(found)
        self._ask({text for group in places for text in group})
        ours = unknown = 0
        for group in places:
            if any(self._answers.get(text, False) for text in group):
                ours += 1
            elif group[0] not in self._nobody:
                unknown += _is_public(group[0])
        return ours, unknown

    def _ask(self, texts: set[str]) -> None:
        if self._connection is None or self._hasher is None:
            return
        new = [text for text in texts if text not in self._answers]
        for start in range(0, len(new), BATCH):
            hashes = {self._hasher(text): text for text in new[start : start + BATCH]}
            names = {"hash": sql.Identifier(self._addresses.hash), "addresses": table(self._addresses)}
            known = {found for (found,) in rows(self._connection, KNOWN.format(**names), (list(hashes),))}
            known |= canaries.known(self._connection, self._key_id, list(hashes))
            self._answers |= {text: hashed in known for hashed, text in hashes.items()}


def _is_public(text: str) -> bool:
    return classify(ip_address(text)) is Kind.PUBLIC

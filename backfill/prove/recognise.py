"""Recognise: is a text that was found in the bytes an address that this database once held?

The canaries are the salted hashes that the address table keeps anyway, and those of discarded
columns, taken by ``verify`` while they stood: nothing new is stored that says more than they do. Where a job rewrote
addresses in place, its hashes or pseudonyms in the column are such canaries, and so are hashes in another column.
Without the salt nothing can be recognised; every public address then counts as found. So it is where a job left
networks, or nothing: they do not tell which address was there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from psycopg2 import sql
from sqlalchemy import Connection

from backfill.addresses import Kind, classify
from backfill.database.connection import rows
from backfill.database.quoting import table
from backfill.hashing.pseudonym import Pseudonyms
from backfill.ledger import canaries
from backfill.plan import Addresses, InPlaceJob, IntoJob, Plan
from backfill.prove.search import Group
from backfill.verify import forms

BATCH = 5_000  # hashes a question
NOBODY = frozenset({"127.0.0.1", "0.0.0.0", "::", "::1"})  # in every configuration, nobody's address  # noqa: S104

KNOWN = sql.SQL("select {hash} from {addresses} where {hash} = any(%s)")


STANDS = sql.SQL("select distinct {text} from {table} as event where {text} = any(%s)")


@dataclass(frozen=True)
class Derived:
    """What a job makes of an address, in its column: the address was ours where that stands there."""

    job: InPlaceJob | IntoJob
    make: Callable[[str], str]


def derived_of(
    plan: Plan, hasher: Callable[[str], str] | None, pseudonyms: Pseudonyms | None
) -> Iterator[Derived]:
    """The jobs of *plan* by whose results an address is recognised."""
    for job in plan.in_place_jobs:
        if job.becomes == "hash" and hasher is not None:
            yield Derived(job, hasher)
        if job.becomes == "pseudonym" and pseudonyms is not None:
            yield Derived(job, pseudonyms.pseudonym)
    if hasher is not None:
        yield from (Derived(job, hasher) for job in plan.into_jobs)


class Recogniser:
    """Tells addresses of this database from what merely looks like one; remembers its answers."""

    def __init__(
        self,
        connection: Connection | None,
        plan: Plan,
        key_id: str,
        hasher: Callable[[str], str] | None,
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self._derived: Sequence[Derived] = tuple(derived_of(plan, hasher, pseudonyms))
        # A job whose results do not tell which addresses were there.
        self.blind = [
            job.label for job in plan.in_place_jobs if job not in [one.job for one in self._derived]
        ]
        self.able = connection is not None and hasher is not None and not self.blind
        self._connection, self._addresses, self._key_id, self._hasher = (
            connection,
            plan.address_table,
            key_id,
            hasher,
        )
        self._nobody = NOBODY | {part.sentinel for part in plan.address_tables}
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
            asked = new[start : start + BATCH]
            hashes = {self._hasher(text): text for text in asked}
            known = set(canaries.known(self._connection, self._key_id, list(hashes)))
            if self._addresses is not None:
                known |= _stored(self._connection, self._addresses, list(hashes))
            self._answers |= {text: hashed in known for hashed, text in hashes.items()}
            for derived in self._derived:
                made = {derived.make(text): text for text in asked}
                for one in _standing(self._connection, derived.job, list(made)):
                    self._answers[made[one]] = True


def _stored(connection: Connection, addresses: Addresses, hashes: list[str]) -> set[str]:
    """Those of *hashes* that the address table has."""
    statement = KNOWN.format(hash=sql.Identifier(addresses.hash), addresses=table(addresses))
    return {found for (found,) in rows(connection, statement, (hashes,))}


def _standing(connection: Connection, job: InPlaceJob | IntoJob, values: list[str]) -> list[str]:
    """Those of *values* that stand in the job's column."""
    text = (
        forms.TEXT.format(sql.Identifier(job.into))
        if isinstance(job, IntoJob)
        else forms.value_text(connection, job)
    )
    statement = STANDS.format(text=text, table=table(job))
    return [found for (found,) in rows(connection, statement, (values,))]


def _is_public(text: str) -> bool:
    return classify(ip_address(text)) is Kind.PUBLIC

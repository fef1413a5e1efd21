"""Survey: every change of the chain, done or not, with each of its conditions; touches nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from backfill.database import verbatim
from backfill.database.inspection import columns, has_column
from backfill.gates import conditions, requirements
from backfill.gates.gate import Condition, Gate, ask
from backfill.plan import PYPI, Table


@dataclass(frozen=True)
class Answer:
    """A condition, asked."""

    name: str
    holds: bool
    evidence: str
    mend: str


@dataclass(frozen=True)
class Stage:
    """One change: done, open (all conditions hold), or shut."""

    change: str
    revision: str | None  # of our own chain; none for a plan that has its drops elsewhere
    done: bool
    answers: tuple[Answer, ...] = field(default=())

    @property
    def state(self) -> str:
        """``done``, ``open`` or ``shut``."""
        return "done" if self.done else "open" if all(answer.holds for answer in self.answers) else "shut"


def survey(connection: Connection, gate: Gate) -> list[Stage]:
    """All stages in the order of the chain. One that stands on an earlier one says so by being shut."""
    return [
        Stage(
            change,
            revision if gate.plan == PYPI else None,
            done=finished,
            answers=() if finished else tuple(_answer(connection, one) for one in needed()),
        )
        for change, revision, finished, needed in _changes(connection, gate)
    ]


def _answer(connection: Connection, condition: Condition) -> Answer:
    holds, evidence = ask(connection, condition)
    connection.rollback()  # each scan is a snapshot of its own
    return Answer(condition.name, holds, evidence, "" if holds else condition.mend)


_Change = tuple[str, str, bool, Callable[[], list[Condition]]]


def _changes(connection: Connection, gate: Gate) -> Iterator[_Change]:
    plan = gate.plan

    def gone(part: Table, column: str) -> bool:
        return not has_column(connection, part, column)

    for discard in plan.discard:
        yield (
            f"drop {discard.name}.{discard.column}",
            f"0002_{discard.name}",
            gone(discard, discard.column),
            lambda discard=discard: requirements.discard(gate, discard),  # type: ignore[misc]
        )
    for job in plan.jobs:
        done = gone(job, job.raw) or _holds(connection, conditions.guarded(job))
        yield (
            f"guard {job.label}",
            f"0003a_{job.name}",
            done,
            lambda job=job: requirements.coverage(gate, job),  # type: ignore[misc]
        )
    for job in plan.jobs:
        done = gone(job, job.raw) or _holds(connection, conditions.validated(job))
        yield (
            f"validate {job.label}",
            f"0003b_{job.name}",
            done,
            lambda job=job: requirements.validation(gate, job),  # type: ignore[misc]
        )
    for job in plan.jobs:
        yield (
            f"drop {job.name}.{job.raw}",
            f"0004_{job.name}",
            gone(job, job.raw),
            lambda job=job: requirements.drop(gate, job),  # type: ignore[misc]
        )
    part = plan.addresses
    found = columns(connection, part)
    known = {} if isinstance(found, str) else found
    address, hashed = known.get(part.address), known.get(part.hash)
    yield (
        f"make {part.name}.{part.address} optional",
        "0005a_ip_address_optional",
        address is None or not address.not_null,
        lambda: requirements.address_optional(gate),
    )
    yield (
        f"require {part.name}.{part.hash}",
        "0005b_propose_hash_required, 0005c_hash_required",
        hashed is not None and hashed.not_null,
        lambda: [conditions.proved(gate, part)],
    )
    yield (
        f"drop {part.name}.{part.address}",
        "0005d_drop_ip_address",
        address is None,
        lambda: requirements.address_drop(gate),
    )


def _holds(connection: Connection, condition: Condition) -> bool:
    return bool(verbatim.fetch(connection, f"select {condition.holds}")[0][0])


def checklist(gate: Gate) -> list[tuple[str, str]]:
    """What to deploy, and what to type, in order; (who, what) for this plan."""
    plan = gate.plan
    part = plan.addresses
    raws = ", ".join(f"{job.name}.{job.raw}" for job in plan.jobs)
    built_in = plan == PYPI

    def migrate(revision: str, otherwise: str) -> str:
        return f"`alembic upgrade {revision}`" if built_in else f"your own revision: {otherwise}"

    steps: list[tuple[str, str]] = []
    for discard in plan.discard:
        steps += [
            ("application", f"deploy: nothing reads or writes {discard.name}.{discard.column} any more"),
            (
                "operator",
                migrate(f"0002_{discard.name}", f"drop_discarded_column({discard.label!r})")
                + f" drops {discard.name}.{discard.column}",
            ),
        ]
    first, last = plan.jobs[0].label, plan.jobs[-1].label
    steps += [
        ("application", f"deploy: new rows get {plan.jobs[0].link}, {part.name}.{part.hash} and geo"),
        (
            "operator",
            "`backfill calibrate`, `backfill run`, `backfill quarantine list`, settle, `backfill verify`",
        ),
        ("application", f"deploy: nothing reads {raws}; the display uses the geo of the event"),
        ("application", f"deploy: nothing writes {raws} (late? `backfill seal TABLE` meanwhile)"),
        ("operator", f"`backfill run`, `backfill verify`, and {gate.observe:.0f} s without a new raw value"),
        ("operator", migrate(f"0003a_{last}", "guard_links, a revision a table") + " guards the tables"),
        (
            "operator",
            migrate(f"0003b_{last}", "validate_links, a revision a table")
            + " lets PostgreSQL check every row",
        ),
        ("operator", "make a backup, name it in BACKFILL_RESTORE_POINT, `backfill verify`"),
        (
            "application",
            f"deploy: the models have no {plan.jobs[0].raw} (an ORM that names the column fails once it is gone)",
        ),
        (
            "operator",
            migrate(f"0004_{last}", f"drop_raw_column({first!r}), a revision a table") + f" drops {raws}",
        ),
        ("application", f"deploy: bans are looked up by {part.hash} as well"),
        ("operator", migrate("0005a_ip_address_optional", "make_address_optional()")),
        ("application", f"deploy: {part.name} is upserted by {part.hash}, without {part.address}"),
        ("operator", migrate("0005c_hash_required", "propose_hash_required(), make_hash_required()")),
        ("operator", f"`backfill verify`, and {gate.observe:.0f} s without a new address"),
        ("application", f"deploy: the models have no {part.address}"),
        ("operator", migrate("head", "drop_address_column()") + f" drops {part.name}.{part.address}"),
        (
            "operator",
            "rewrite the tables, let WAL archives, base backups and dumps expire: the drop erased no byte",
        ),
    ]
    return steps

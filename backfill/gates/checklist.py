"""Checklist: what to deploy and what to type, in order, for a plan."""

from backfill.gates import steps
from backfill.gates.gate import Gate
from backfill.gates.steps import Step
from backfill.plan import PYPI

ERASE = (
    "operator",
    "`backfill erase`, `backfill prove`; let WAL archives, base backups and dumps expire: no byte was erased before",
)


def checklist(gate: Gate) -> list[tuple[str, str]]:
    """What to deploy, and what to type, in order; (who, what) for this plan."""
    plan = gate.plan
    raws = ", ".join(f"{job.name}.{job.raw}" for job in plan.dropping_jobs)
    built_in = plan == PYPI

    def migrate(step: Step, otherwise: str) -> str:
        return f"`backfill migrate {step.revisions[-1]}`" if built_in else f"your own revision: {otherwise}"

    todo: list[tuple[str, str]] = []
    for part in plan.discard:
        step = steps.discard(gate, part)
        todo += [
            ("application", f"deploy: nothing reads or writes {part.name}.{part.column} any more"),
            (
                "operator",
                f"{migrate(step, step.call)} drops {part.name}.{part.column}",
            ),
        ]
    if plan.in_place_jobs:
        names = ", ".join(f"{job.name}.{job.raw}" for job in plan.in_place_jobs)
        todo += [
            (
                "application",
                f"look at every look-up by {names}: none finds a raw address afterwards",
            ),
            (
                "operator",
                "make a backup, `backfill plan`, `backfill run`, which asks for its name and a count",
            ),
            ("operator", f"`backfill verify`: nothing is dropped, {names} stay"),
        ]
    if plan.dropping_jobs:
        first, last = plan.dropping_jobs[0], plan.dropping_jobs[-1]
        known = [f"{part.name}.{part.hash} and geo" for part in plan.address_tables if plan.link_jobs]
        results = ", ".join([*dict.fromkeys(job.result for job in plan.dropping_jobs), *known])
        calibrate = "`backfill calibrate`, " if plan.address_tables else ""
        todo += [
            ("application", f"deploy: new rows get {results}"),
            (
                "operator",
                f"{calibrate}`backfill run`, `backfill quarantine list`, settle, `backfill verify`",
            ),
            (
                "application",
                f"deploy: nothing reads {raws}"
                + ("; the display uses the geo of the event" if known else ""),
            ),
            ("application", f"deploy: nothing writes {raws} (late? `backfill seal TABLE` meanwhile)"),
            (
                "operator",
                f"`backfill run`, `backfill verify`, and {gate.observe:.0f} s without a new raw value",
            ),
            (
                "operator",
                migrate(steps.guard(gate, last), "guard_links, a revision a table") + " guards the tables",
            ),
            (
                "operator",
                migrate(steps.validation(gate, last), "validate_links, a revision a table")
                + " lets PostgreSQL check every row",
            ),
            ("operator", "make a backup, name it in BACKFILL_RESTORE_POINT, `backfill verify`"),
            (
                "application",
                f"deploy: the models have no {first.raw} (an ORM that names the column fails once it is gone)",
            ),
            (
                "operator",
                migrate(steps.drop(gate, last), f"{steps.drop(gate, first).call}, a revision a table")
                + f" drops {raws}",
            ),
        ]
    if plan.address_table is None:
        return [*todo, ERASE]
    addresses = plan.addresses
    optional, hashed, dropped = (
        steps.address_optional(gate),
        steps.hash_required(gate),
        steps.address_drop(gate),
    )
    if not plan.dropping_jobs:  # only the address table still has addresses: nothing has to be guarded
        todo += [
            ("application", f"deploy: new rows of {addresses.name} get {addresses.hash} and geo"),
            ("operator", "`backfill calibrate`, `backfill run`, `backfill verify`"),
            ("operator", "make a backup, name it in BACKFILL_RESTORE_POINT, `backfill verify`"),
        ]
    todo += [
        ("application", f"deploy: bans are looked up by {addresses.hash} as well"),
        ("operator", migrate(optional, optional.call)),
        (
            "application",
            f"deploy: {addresses.name} is upserted by {addresses.hash}, without {addresses.address}",
        ),
        ("operator", migrate(hashed, hashed.call)),
        ("operator", f"`backfill verify`, and {gate.observe:.0f} s without a new address"),
        ("application", f"deploy: the models have no {addresses.address}"),
        (
            "operator",
            f"{migrate(dropped, dropped.call)} drops {addresses.name}.{addresses.address}",
        ),
        ERASE,
    ]
    return todo

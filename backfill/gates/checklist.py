"""Checklist: what to deploy and what to type, in order, for a plan."""

from backfill.gates.gate import Gate
from backfill.plan import PYPI


def checklist(gate: Gate) -> list[tuple[str, str]]:
    """What to deploy, and what to type, in order; (who, what) for this plan."""
    plan = gate.plan
    part = plan.addresses
    raws = ", ".join(f"{job.name}.{job.raw}" for job in plan.jobs)
    built_in = plan == PYPI

    def migrate(revision: str, otherwise: str) -> str:
        return f"`backfill migrate {revision}`" if built_in else f"your own revision: {otherwise}"

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
        (
            "operator",
            migrate("0005d_drop_ip_address", "drop_address_column()") + f" drops {part.name}.{part.address}",
        ),
        (
            "operator",
            "`backfill erase`, `backfill prove`; let WAL archives, base backups and dumps expire: the drop erased no byte",
        ),
    ]
    return steps

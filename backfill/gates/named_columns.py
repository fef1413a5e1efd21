"""Named columns: those that the plan names are there, before a condition asks about them."""

from collections.abc import Mapping

from alembic import op
from backfill.database.columns import columns
from backfill.gates.gate import ChainUnfit, Gate
from backfill.gates.offline_script import offline
from backfill.plan import Discard, IntoJob, LinkJob
from backfill.raw_column import RawColumn, Table


def require_columns(gate: Gate, part: RawColumn) -> None:
    """What the conditions of *part* name is there: a question about another column fails in the server, without a hint.

    Raises ``ChainUnfit``.
    """
    if isinstance(part, IntoJob):
        _require(gate, part, {"into": part.into, "time": part.time})
        return
    if isinstance(part, LinkJob):
        _require(gate, part, {"link": part.link, "time": part.time})
    elif isinstance(part, Discard):
        _require(gate, part, {"time": part.time})
        return
    known = gate.plan.addresses
    _require(gate, known, {"address": known.address, "hash": known.hash, "key": known.key})


def _require(gate: Gate, part: Table, named: Mapping[str, str | None]) -> None:
    """Raises ``ChainUnfit``."""
    if offline():
        return
    found = columns(op.get_bind(), part)
    if isinstance(found, str):
        raise ChainUnfit(problem=found)
    for role, name in named.items():
        if name is not None and name not in found:
            raise ChainUnfit(
                problem=f"Table {part.name} has no column {name} ({role}), which plan {gate.plan.name} names. If it was renamed, "
                "write its new name into the plan; then `backfill verify`, since a proof is about one plan."
            )

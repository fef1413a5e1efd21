"""Dependents as conditions: asked before anything is guarded, so that no drop is refused at the last step."""

from backfill.database.dependents import DEPENDENTS, NAMERS
from backfill.gates.gate import Condition, Gate
from backfill.gates.offline_script import literal, regclass
from backfill.plan import Addresses
from backfill.raw_column import RawColumn

CODE = "dropped-along"
NAMED = "trigger-names-column"


def free(gate: Gate, part: RawColumn) -> list[Condition]:
    """Nothing keeps the column, and what goes with it was accepted by name: in the plan, or by a run that is on record."""
    asked = {"table": regclass(part), "column": literal(part.raw_column), "ledger": literal(gate.schema)}
    found, namers = DEPENDENTS.format(**asked), NAMERS.format(**asked)
    prefix = literal(f"{CODE}:{part.schema_}.{part.table}.")
    accepted = f"select detail ->> 'finding' from {gate.ledger('decisions')} where kind = 'accept'" + "".join(
        f" union all select {literal(name)}" for name in gate.plan.accept
    )
    along = f"(select string_agg(one.what, '; ' order by one.what) from ({found}) as one"
    along += f" where one.goes and ({prefix} || one.name) not in ({accepted}){_own_key(part)})"
    names = along.replace(
        "one.what, '; ' order by one.what", f"{prefix} || one.name, ' ' order by one.name", 1
    )
    prefix_named = literal(f"{NAMED}:{part.schema_}.{part.table}.")
    naming = (
        f"(select string_agg(one.what || ' (' || {prefix_named} || one.name || ')', '; ' order by one.name)"
    )
    naming += f" from ({namers}) as one where ({prefix_named} || one.name) not in ({accepted}))"
    keeps = f"(select string_agg(one.what, '; ' order by one.what) from ({found}) as one where not one.goes)"
    subject = f"{part.name}.{part.raw_column}"
    return [
        Condition(
            f"what keeps {subject}",
            f"{keeps} is null",
            keeps,
            "change or drop what is named, so that it does without the column",
            held="nothing",
        ),
        Condition(
            f"what goes with {subject}",
            f"{along} is null",
            f"{along} || ' (' || {names} || ')'",
            "make others that do without the column, where they are needed; then `accept` in the plan what stands in"
            " brackets, or `backfill run --accept` it",
            held="nothing that was not accepted",
        ),
        Condition(
            f"what names {subject}",
            f"{naming} is null",
            naming,
            "change the function, or drop the trigger; or, where it only mentions the name, `accept` in the plan what"
            " stands in brackets, or `backfill run --accept` it",
            held="no trigger that was not accepted",
        ),
    ]


def _own_key(part: RawColumn) -> str:
    """The unique index over the address alone, which the schema has to have until the address goes."""
    if not isinstance(part, Addresses):
        return ""
    return (
        " and not exists (select from pg_index as i join pg_class as c on c.oid = i.indexrelid"
        f" join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] and a.attname = {literal(part.address)}"
        f" where i.indrelid = {regclass(part)} and i.indisunique and i.indnkeyatts = 1 and c.relname = one.name)"
    )

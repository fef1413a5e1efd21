"""Advice: what to type next, for the stages of a chain."""

import shlex
from collections.abc import Sequence

from backfill.gates.gate import Gate
from backfill.gates.survey import Stage, State


def first_line(stages: Sequence[Stage], gate: Gate, *, named: bool = False, erased: bool = False) -> str:
    """The next step and the command for it; or what blocks it, and what helps.

    *named*: the restore point is an option. *erased*: the newest proof found no byte of what was dropped.
    """
    left = [stage for stage in stages if stage.state is not State.DONE]
    if not left and erased:
        return "Everything is done, and the last proof found no raw address."
    if not left and any(stage.standing for stage in stages):
        return (
            "Everything is done, and nothing is late now; `backfill status --due` says so later. "
            "Next: `backfill erase`, then `backfill prove`."
        )
    if not left:
        return "Everything is done. Next: `backfill erase`, then `backfill prove`."
    ahead = next((stage for stage in left if stage.state is State.NEXT), None)
    if ahead is None:
        blocked = next((stage for stage in left if stage.state is State.BLOCKED), left[0])
        if blocked.standing:
            word = "Not known what is late" if blocked.unknown else "Late"
            return f"{word}: {blocked.answers[0].evidence}. To fix it: {fixes([blocked])[0]}."
        return f"Blocked: {blocked.change}. To fix it: {fixes([blocked])[0]}."
    if not ahead.call:
        return f"Next: `backfill run`, then `backfill verify` ({ahead.change})."
    if ahead.revision is None:
        return f"Next: {ahead.change}: gates.{ahead.call} in a revision of your own chain (docs/migrate.md)."
    words = ["backfill", "migrate", ahead.revision.split(", ")[-1]]
    if named:
        words += ["--restore-point", str(gate.restore_point)]
    return f"Next: `{shlex.join(words)}` ({ahead.change})."


def fixes(stages: Sequence[Stage]) -> list[str]:
    """What opens the blocked ones, each once."""
    found = dict.fromkeys(
        fix
        for stage in stages
        if stage.state is State.BLOCKED
        for fix in ([stage.lost] if stage.lost else [answer.fix for answer in stage.unmet])
    )
    return list(found)


def goes_on(stages: Sequence[Stage]) -> bool:
    """Whether something can be done now, or everything is."""
    states = {stage.state for stage in stages}
    return State.NEXT in states or states <= {State.DONE}

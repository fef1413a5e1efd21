"""``backfill gates``, ``seal`` and ``unseal``: what blocks a gate, and what opens it."""

from dataclasses import replace
from datetime import timedelta

import click

from backfill import escaping
from backfill.cli import complete, output, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import JSON, Answer, answers, commands_in
from backfill.cli.context import Session
from backfill.cli.due import grace_option
from backfill.database.preflight.target import Purpose
from backfill.errors import UnknownJob
from backfill.gates.advice import first_line, fixes, goes_on
from backfill.gates.checklist import checklist
from backfill.gates.gate import Gate
from backfill.gates.survey import Stage, survey
from backfill.ledger import erasure_checks
from backfill.plan import Discard, Job
from backfill.report.document import Tone
from backfill.report.document import table as rows
from backfill.verify import seal as seals


@click.command("gates")
@click.option(
    "--checklist", "steps", is_flag=True, help="Show what to deploy before which revision, for this plan."
)
@click.option(
    "--restore-point", help="Name of the backup that you could go back to; overrides BACKFILL_RESTORE_POINT."
)
@grace_option("By how much a raw value may be older than its job allows, as between two due runs: '1 day'.")
@answers
@click.pass_context
def gates_command(
    context: click.Context, steps: bool, form: str, restore_point: str | None, grace: timedelta | None
) -> Answer:
    """Show the next command, and every revision's conditions with their evidence. Changes nothing.

    Exit 0 when the next revision can run or all are done, 1 when it is blocked.
    """
    session = sessions.session_of(context)
    settings = session.settings
    if restore_point:
        settings = settings.model_copy(update={"restore_point": restore_point})
    if steps:
        return _checklist(Gate.of(settings, session.plan, None), form)
    session.require_ledger()
    preflight.require(session, preflight.all_parts(session), Purpose.READ)
    with session.engine.connect() as connection:
        gate = replace(Gate.of(settings, session.plan, connection), grace=grace or timedelta())
        stages = survey(connection, gate)
        proof = erasure_checks.latest(connection, gate.fingerprint)
    erased = proof is not None and proof.verdict == "gone"
    line = first_line(stages, gate, named=restore_point is not None, erased=erased)
    tone = Tone.NEXT if goes_on(stages) else Tone.ALARM
    if form != JSON:
        output.say(line, tone)
        click.echo()
        _show(stages)
        click.echo()
    facts = {"gates": list(map(_as_json, stages))}
    verdict, _, rest = line.partition(" Next: ")
    following = commands_in(rest if rest else line)
    return Answer(
        line if form != JSON else verdict,
        following if form == JSON else (),
        facts,
        code=int(not goes_on(stages)),
        tone=tone,
    )


def _as_json(stage: Stage) -> dict[str, object]:
    return {
        "change": stage.change,
        "revision": stage.revision,
        "state": stage.state,
        "conditions": [vars(answer) for answer in stage.answers],
        "standing": stage.standing,
    }


def _show(stages: list[Stage]) -> None:
    """A line a change, below it its conditions; what opens the blocked ones once, at the end."""
    for stage in stages:
        named = f"  ({stage.revision})" if stage.revision else ""
        output.say(f"{stage.state:<7} {stage.change}{named}", Tone(stage.state.value))
        for answer in stage.answers:
            evidence = (
                "comes with an earlier step"
                if answer.by_chain and not (answer.holds or stage.lost)
                else answer.evidence
            )
            click.echo(f"          {'+' if answer.holds else '-'} {answer.name}: {evidence}")
        if stage.lost:
            click.echo("          - the chain has passed this step, and what it made is gone")
    helping = fixes(stages)
    if helping:
        click.echo("\nWhat opens the blocked ones:")
        for fix in helping:
            click.echo(f"- {fix}")


def _checklist(gate: Gate, form: str) -> Answer:
    steps = checklist(gate)
    if form != JSON:
        body = [[number, who, what] for number, (who, what) in enumerate(steps, 1)]
        output.show(rows(["step", "who", "what"], body))
    return Answer(
        f"{escaping.counted(len(steps), 'step', 'steps')}, in this order.",
        ("backfill gates",),
        {"steps": [{"who": who, "what": what} for who, what in steps]},
    )


@click.command("seal")
@click.argument("table", shell_complete=complete.tables)
@click.pass_context
def seal_command(context: click.Context, table: str) -> None:
    """Discard the raw values of new rows of TABLE from now on. They are never linked; the decision is recorded."""
    session = sessions.session_of(context)
    part = seals.sealable(session.plan, table)
    _require_column(session, part)
    preflight.require(session, (part,), Purpose.READ)
    name = part.label
    if seals.seal(session.engine, session.settings.ledger_schema, part, click.echo):
        click.echo(
            f"{name} is sealed: raw values in new rows are discarded and counted. Next: `backfill verify`; "
            f"`backfill unseal {escaping.word(name)}` takes the seal away."
        )
    else:
        click.echo(f"{name} was sealed already. Next: `backfill verify`.")


@click.command("unseal")
@click.argument("table", shell_complete=complete.tables)
@click.pass_context
def unseal_command(context: click.Context, table: str) -> None:
    """Remove the seal of TABLE."""
    session = sessions.session_of(context)
    part = seals.named(session.plan, table)
    _require_column(session, part)
    number = seals.unseal(session.engine, session.settings.ledger_schema, part, click.echo)
    values = escaping.counted(number, "raw value was", "raw values were")
    click.echo(
        f"{part.label} is no longer sealed. At most {values} discarded meanwhile. Next: `backfill verify`."
    )


def _require_column(session: Session, part: Job | Discard) -> None:
    """Raises ``UnknownJob`` where the column is gone."""
    session.expand()
    with session.engine.connect() as connection:
        if not seals.can_be_sealed(connection, part):
            raise UnknownJob(
                job=f"{part.label} with a column {part.raw_column} that could be sealed",
                known=", ".join(job.label for job in session.plan.dropping_jobs),
            )

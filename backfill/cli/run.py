"""``backfill run``: hash, locate and link, or go on where an earlier run stopped."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import click

from backfill import escaping
from backfill.cli import complete, consent, cutover, preflight
from backfill.cli import context as sessions
from backfill.cli.answer import Answer, answers
from backfill.cli.calibrate import calibrate_into, tell_confirmation
from backfill.cli.consent import consent_options
from backfill.cli.context import Session, weak_salt_option
from backfill.cli.dropped_columns import AFTER_ALL, NOTHING_LEFT, calibrates, still_there
from backfill.cli.due import aging, as_a_timer, due_options, due_workers, require_no_other
from backfill.cli.in_place import places_of, rewrite, tell_lost
from backfill.cli.invocation import Invocation
from backfill.cli.observers import require_observers
from backfill.cli.option_groups import GroupedCommand
from backfill.cli.preflight import accept_option
from backfill.cli.sampler import predicted
from backfill.database.preflight.target import Purpose
from backfill.engine import control, dask_pool
from backfill.engine.control import Deadline
from backfill.engine.driver import run_lock
from backfill.engine.due import Due
from backfill.engine.estimate.actual import Fact
from backfill.engine.in_place import InPlace
from backfill.engine.pool import local
from backfill.jobs.calibrate import calibrated, require
from backfill.jobs.resolver import Resolver
from backfill.ledger import keys, lost_fields, quarantine, runs
from backfill.plan import InPlaceJob, IntoJob, Job, LinkJob, links
from backfill.settings import Settings
from backfill.shadow.disk import require_disk
from backfill.shadow.refusals import require_copyable, require_no_other_copy, require_one_a_table
from backfill.shadow.strategy import ShadowCopies

COPYING = "The copy strategy (experimental)"  # a title of --help


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """``4h``, ``30m``, ``1h30m``."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """In seconds."""
        try:
            return control.seconds(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class TimeOfDay(click.ParamType):  # type: ignore[type-arg]
    """``06:00``, the next one."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """As a moment."""
        try:
            return control.until(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time of day such as 06:00", param, ctx)


@click.command(cls=GroupedCommand, groups={COPYING: ("strategy", "postpone_cutover", "abandon")})
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete.jobs)
@click.option(
    "--workers", type=click.IntRange(1, 64), help="Worker processes of the link phase.  [default: 2]"
)
@click.option(
    "--batch-blocks",
    type=click.IntRange(1, 1_000_000),
    help="Largest batch in heap blocks (8 kB); below that, duration decides.  [default: 8000]",
)
@click.option(
    "--accept-mismatches",
    type=click.IntRange(0),
    default=0,
    help="Continue although exactly this many stored hashes do not match salt and scheme.",
)
@click.option("--max-runtime", type=Duration(), help="Stop at a checkpoint after this long: 90s, 30m, 4h.")
@click.option("--until", type=TimeOfDay(), help="Stop at a checkpoint at this time of day: 06:00.")
@click.option(
    "--nice",
    type=click.FloatRange(0, 100),
    help="Pause after each transaction, as a multiple of its duration.",
)
@click.option(
    "--dask", metavar="URL", help="Run the link phase on the workers of this Dask scheduler: tls://host:8786."
)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics on this loopback port."
)
@click.option(
    "--log-format",
    type=click.Choice(["human", "json"]),
    help="Log events on standard error.  [default: none]",
)
@click.option("--no-sample", is_flag=True, help="Take no sample: no prediction to compare with afterwards.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.option(
    "--strategy",
    type=click.Choice(["in-place", "shadow"]),
    default="in-place",
    show_default=True,
    help="in-place: update the rows. shadow (experimental): copy each table without its raw column and swap the copy in.",
)
@click.option(
    "--postpone-cutover",
    is_flag=True,
    help="With shadow: stop before the swap; `backfill cutover` does it later.",
)
@click.option(
    "--abandon",
    is_flag=True,
    help="Remove the shadow copies of these tables and everything that belongs to them.",
)
@due_options
@consent_options
@accept_option
@weak_salt_option
@answers
@click.pass_context
def run(
    context: click.Context,
    jobs: tuple[str, ...],
    workers: int | None,
    batch_blocks: int | None,
    accept_mismatches: int,
    max_runtime: float | None,
    until: datetime | None,
    nice: float | None,
    dask: str | None,
    metrics_port: int | None,
    log_format: str | None,
    no_sample: bool,
    quiet: bool,
    strategy: str,
    postpone_cutover: bool,
    abandon: bool,
    due: bool,
    accept_due: int | None,
    restore_point: str | None,
    count: int | None,
    accept: tuple[str, ...],
    allow_weak_salt: bool,
) -> Answer:
    """Hash, locate and link all addresses, write hashes beside them, or rewrite them in place. JOB is the name of a table; without it, all jobs.

    Stop it with Ctrl-C; the same command continues where it stopped, also after a crash. From another
    shell: `backfill status`, `pause`, `resume`, `cancel`. Exit 0 when everything that can be linked is
    linked, 1 when the run failed, 2 when it could not begin, 3 when it was stopped; with --due, 75 when
    another run is at work.
    """
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    session.settings = Settings.load(
        workers=due_workers(workers) if due else workers,
        batch_blocks=batch_blocks,
        nice=nice,
        dask=dask,
        metrics_port=metrics_port,
        log_format=log_format,
    )
    require_observers(session.settings)
    pool = (
        dask_pool.factory(session.settings.dask, click.echo)
        if session.settings.dask
        else session.pool or local
    )
    chosen = session.plan.choose(jobs)
    if abandon:
        cutover.abandon(session, links(chosen))
        return Answer("Nothing of a copy is left.", ("backfill run",))
    if due:
        chosen = aging(session, chosen, named=bool(jobs))
    purpose = Purpose.COPY if strategy == "shadow" else Purpose.WRITE
    left = still_there(session, chosen) if purpose is Purpose.WRITE else chosen
    if left is None:
        return Answer(NOTHING_LEFT, AFTER_ALL)
    chosen = left
    looks = preflight.RunPreflight(session, chosen, purpose, accept)
    if places_of(chosen):
        _ = session.geo  # opened before anything is counted or asked
    invocation = Invocation(session, looks, Deadline(max_runtime, until), pool, accept, quiet)
    in_place = tuple(job for job in chosen if isinstance(job, InPlaceJob))
    values = tuple(job for job in chosen if isinstance(job, InPlaceJob | IntoJob))
    if strategy == "shadow":
        return _copy(invocation, links(chosen), accept_mismatches, postpone_cutover, no_sample=no_sample)
    if due:
        with as_a_timer():
            _calibrate_values(invocation, in_place, accept_mismatches)
            session.expand()
            consent.require(context, session, in_place, restore_point, count)
            require_no_other(session, in_place)
            done = [rewrite(invocation, in_place, Due(accepted=accept_due))]
        return _finished(session, done, ("backfill status --due",))
    explained, beside = calibrate_into(
        session,
        [job for job in values if isinstance(job, IntoJob)],
        accept_mismatches,
        with_addresses=chosen != values or calibrates(session),
    )
    if chosen == values:
        _calibrate_values(invocation, values, accept_mismatches, beside)
    if in_place:
        session.expand()
        consent.require(context, session, in_place, restore_point, count)
    done = []
    others = tuple(job for job in chosen if job not in values)
    if others or not values:  # a plan without jobs has an address table to fill
        done.append(_link(invocation, others, accept_mismatches, beside, no_sample=no_sample))
    if values:
        done.append(rewrite(invocation, values, InPlace(), explained, sampled=not no_sample))
    return _finished(session, done)


def _calibrated(invocation: Invocation, accept_mismatches: int, beside: int = 0) -> tuple[int, int]:
    """Salt and scheme are those of the live application; returns the hashes that disagree, and those that agree.

    *beside*: of the mismatches accepted, those that stand beside raw values.
    """
    session, salt = invocation.session, invocation.session.salt
    found = calibrated(session.engine, session.plan.addresses, salt, session.plan.hash.scheme)
    mismatches = require(found, session.plan.hash.scheme, accept_mismatches, beside) if found.pairs else 0
    explained = found.pairs - mismatches
    session.expand()
    with run_lock(session.engine, session.settings.ledger_schema), session.engine.begin() as connection:
        keys.record(connection, session.settings.key_id, salt)
        confirmed = runs.confirmed(connection, session.settings.key_id, session.plan.hash.scheme, explained)
    preflight.record(session, invocation.looks.report, invocation.accept)
    tell_confirmation(session, found, mismatches, confirmed)
    return mismatches, explained


def _calibrate_values(
    invocation: Invocation, jobs: Sequence[Job], accept_mismatches: int, beside: int = 0
) -> None:
    """By the hashes of the address table, where the plan has one: what a wrong salt writes cannot be put back."""
    session, known = invocation.session, invocation.session.plan.address_tables
    if not any(job.becomes in ("hash", "pseudonym") for job in jobs) or not known:
        return
    preflight.require(session, known, Purpose.READ)
    if calibrates(session):
        _calibrated(invocation, accept_mismatches, beside)


def _link(
    invocation: Invocation, jobs: tuple[Job, ...], accept_mismatches: int, beside: int, *, no_sample: bool
) -> dict[str, Any]:
    """Rows are updated where they are: links, and what other kinds need of addresses."""
    session = invocation.session
    geo = session.geo  # opened before anything is done
    mismatches, explained = _calibrated(invocation, accept_mismatches, beside)
    resolver = Resolver(session.salt.hasher(session.plan.hash.scheme), geo)
    forecast = None if no_sample or not jobs else predicted(session, jobs, "in-place")
    number, counts = invocation.drive(
        jobs,
        resolver,
        InPlace(),
        Fact(session.engine, jobs, forecast),
        mismatches=mismatches,
        explained=explained,
    )
    facts = invocation.tell(number, counts, "in-place")
    for line in preflight.kept(invocation.looks.report, counts, session.plan):
        click.echo(line)
    with session.engine.begin() as connection:
        lost = lost_fields.summary(connection, session.plan.addresses)
    tell_lost(session.plan.addresses.name, lost)
    return facts


def _copy(
    invocation: Invocation,
    jobs: tuple[LinkJob, ...],
    accept_mismatches: int,
    postpone: bool,
    *,
    no_sample: bool,
) -> Answer:
    """Each table is copied without its raw column, and the copy swapped in."""
    session = invocation.session
    require_one_a_table(jobs)
    with session.engine.connect() as connection:
        for job in jobs:
            require_copyable(connection, job)
    geo = session.geo
    mismatches, explained = _calibrated(invocation, accept_mismatches)
    if cutover.are_ready(session, jobs):  # the same command again
        cutover.postpone_or_cut_over(session, jobs, hold=postpone)
        return cutover.ending(jobs, hold=postpone)
    require_no_other_copy(session.engine, jobs)
    require_disk(session.engine, session.settings.ledger_schema, jobs)
    resolver = Resolver(session.salt.hasher(session.plan.hash.scheme), geo)
    forecast = None if no_sample or not jobs else predicted(session, jobs, "shadow")
    copies = cutover.with_resolver(session, resolver)
    number, counts = invocation.drive(
        jobs,
        resolver,
        ShadowCopies(copies),
        Fact(session.engine, jobs, forecast),
        mismatches=mismatches,
        explained=explained,
    )
    facts = invocation.tell(number, counts, "shadow")
    cutover.cut_over_or_postpone(session, copies, jobs, hold=postpone)
    return replace(cutover.ending(jobs, hold=postpone), facts={"runs": [facts]})


def _finished(
    session: Session, runs_done: Sequence[dict[str, Any]], look: tuple[str, ...] = ("backfill verify",)
) -> Answer:
    with session.engine.begin() as connection:
        found, _ = quarantine.waiting_and_kept(connection, session.plan)
    waiting = sum(sum(reasons.values()) for reasons in found.values())
    verdict = " ".join(f"Run {done['run']} finished." for done in runs_done)
    if waiting:
        verdict += f" {escaping.counted(waiting, 'row waits', 'rows wait')} in the quarantine."
        look = ("backfill quarantine list", *look)
    return Answer(verdict, look, {"runs": list(runs_done), "waiting": waiting})

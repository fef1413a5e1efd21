"""Invocation: what one call of ``run`` was told, and how it drives a run with it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from backfill.cli import output
from backfill.cli.context import Session
from backfill.cli.observers import observed
from backfill.cli.preflight import RunPreflight
from backfill.engine.control import Deadline
from backfill.engine.driver import Driver
from backfill.engine.estimate.actual import Fact
from backfill.engine.strategy import Strategy
from backfill.engine.worker_phases import MakePool
from backfill.jobs.resolver import Resolver
from backfill.jobs.values import ValueResolver
from backfill.ledger.runs import TableCount
from backfill.plan import Job
from backfill.report import closing


@dataclass(frozen=True)
class Invocation:
    """One invocation, for each of the runs that it drives."""

    session: Session
    looks: RunPreflight
    deadline: Deadline
    pool: MakePool
    accept: Sequence[str]
    quiet: bool

    def drive(
        self,
        jobs: Sequence[Job],
        resolver: Resolver | ValueResolver,
        strategy: Strategy,
        fact: Fact,
        *,
        mismatches: int = 0,
        explained: int = 0,
    ) -> tuple[int, list[TableCount]]:
        """Bring the run of *jobs* to its end; returns its number and its closing counts. Raises what ``Driver.drive`` does."""
        session = self.session
        with observed(session) as observe, fact:

            def hears(event: str, **fields: object) -> None:
                fact.hears(event, **fields)
                observe(event, **fields)

            driver = Driver(
                engine=session.engine,
                settings=session.settings,
                plan=session.plan,
                jobs=tuple(jobs),
                resolver=resolver,
                mismatches=mismatches,
                explained=explained,
                quiet=self.quiet,
                tell=click.echo,
                deadline=self.deadline,
                observe=hears,
                see=self.looks.definitions,
                pool=self.pool,
                strategy=strategy,
                hooks=session.hooks,
            )
            counts = driver.drive(session.settings.key_id)
        return driver.run.id, counts

    def tell(
        self, number: int, counts: Sequence[TableCount], strategy: str, *, done: str = "linked"
    ) -> dict[str, Any]:
        """Show the closing counts of that run; the same for machines."""
        label = self.session.plan.label
        output.show(closing.counted(counts, label, done))
        tables = [{**asdict(count), "table": label(count.job)} for count in counts]
        return {"run": number, "strategy": strategy, "tables": tables}

"""Completion: the names that a shell offers. They come from the plan; no database is asked and nothing is printed."""

from collections.abc import Callable

import click

from backfill.errors import BackfillError
from backfill.plan import Plan, load_plan
from backfill.settings import Settings

Complete = Callable[[click.Context, click.Parameter, str], list[str]]


def _named(names: Callable[[Plan], list[str]]) -> Complete:
    def complete(_context: click.Context, _argument: click.Parameter, begun: str) -> list[str]:
        try:
            plan = load_plan(Settings.load().plan)
        except (BackfillError, OSError):
            return []  # the command itself says what is wrong
        return [name for name in dict.fromkeys(names(plan)) if name.startswith(begun)]

    return complete


def _jobs(plan: Plan) -> list[str]:
    return [job.label for job in plan.jobs]


def _tables(plan: Plan) -> list[str]:
    addresses = [plan.addresses.label] if plan.addresses else []
    return [*_jobs(plan), *addresses, *(discard.label for discard in plan.discard)]


jobs = _named(_jobs)
tables = _named(_tables)

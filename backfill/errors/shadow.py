"""Errors of the copy strategy."""

from backfill.errors.base import BackfillError


class CannotBeCopied(BackfillError):
    """A shadow copy of {table} could not carry {what}. Link it in place (`backfill run {table!q}`), or remove
    that first. Nothing was changed."""


class OneCopyATable(BackfillError):
    """{first} and {second} are columns of one table, which has one copy at a time, for one of them. Nothing was changed. Begin
    with `backfill run --strategy shadow {first!q}`; once its copy is finished (`backfill cutover --finish {first!q}`), type
    `backfill run --strategy shadow {second!q}`."""


class ShadowExists(BackfillError):
    """{table}: {state}. {fix}"""


class NoShadow(BackfillError):
    """There is no shadow copy of {table}{state}. `backfill run --strategy shadow {table!q}` makes one."""


class ShadowDiffers(BackfillError):
    """The copy of {table} does not match its rows ({faults}). It was not swapped in, and the original stays in
    use. `backfill run --abandon {table!q}` removes the copy; please report this."""

    exit_code = 1


class CutoverPostponed(BackfillError):
    """{table} was not cut over: {reason}. The copy stays in sync. {fix}"""

    exit_code = 1


class DiskTooFull(BackfillError):
    """A shadow copy of {table} takes about {needed} MB (table, indexes, WAL), and {free} MB are free. Free disk
    space, or link it in place."""

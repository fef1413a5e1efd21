"""Errors of runs: their state, drivers and workers; due runs."""

from backfill.errors.base import BackfillError


class RunInProgress(BackfillError):
    """Another command is driving run {run} ({holder}; {session}). Wait for it, or stop it first."""


class NoWorkerProcesses(BackfillError):
    """Several workers are processes, which need semaphores in /dev/shm, and this system gives none ({problem}). Make
    /dev/shm writable, or set BACKFILL_WORKERS=1: one worker needs none."""


class DueInProgress(BackfillError):
    """Another command is driving run {run} ({holder}; {session}), so nothing was done. The next due run does what is
    due then."""

    exit_code = 75  # EX_TEMPFAIL: two timers at once are no failure


class RunUnfinished(BackfillError):
    """Run {run} of these tables is not finished, and a due run would end it. `backfill run` goes on with it,
    `backfill cancel` ends it. Nothing was done."""


class NothingAges(BackfillError):
    """{what} names no age: `--due` is for jobs with `after` in the plan. Nothing was done."""


class DueRefused(BackfillError):
    """What is due is not what was seen before."""


class TooManyDue(DueRefused):
    """{job}: {rows} rows are due, and {bound}. Nothing was written. If the number is right:
    `backfill run --due --accept-due {total}`, which may be the number of all jobs or more."""


class ClockJumped(DueRefused):
    """The server's clock shows {now}, which is {ahead} after the last due run, and the last ones were at most
    {longest} apart. Nothing was written. Check the clock of the server; if it is right:
    `backfill run --due --accept-due {total}`."""


class RunFailed(BackfillError):
    """Run {run} failed: {problem}. `backfill status` shows its progress; once the cause is gone, `backfill run` resumes it."""

    exit_code = 1


class VerifyInProgress(BackfillError):
    """Another command is verifying this database ({session}). Wait for it, then repeat."""


class NoRun(BackfillError):
    """This database has no {what} yet. Start with `{command}`."""


class RunPaused(BackfillError):
    """Run {run} stopped at a checkpoint{place}: {reason}. `backfill run` goes on from there."""

    exit_code = 3  # neither done nor failed: a script can tell


class RunCancelled(BackfillError):
    """Run {run} was cancelled, and its address map dropped. What it wrote stays; `backfill run` begins a new run."""

    exit_code = 3


class RunTakenOver(BackfillError):
    """Run {run} is driven by another process now ({holder}), since our session was lost. We wrote nothing after
    that; `backfill status` shows its progress."""

    exit_code = 1


class TransitionRefused(BackfillError):
    """Run {run} is {state}, and from there it cannot become {wanted}. `backfill status` says where it stands."""


class NoDriver(BackfillError):
    """Run {run} is {state}, and no process drives it. Type `backfill run` to go on from its checkpoints."""


class ExecutorUnusable(BackfillError):
    """{executor}: {problem}"""


class DaskInsecure(ExecutorUnusable):
    """Dask scheduler {address}: {problem}. Whoever can talk to a scheduler runs code on its workers and here, so TLS
    with certificates on both sides is required, on loopback too. Type, with certificates of a CA of its own
    (docs/operations.md has the lines that make one): `dask scheduler --protocol tls --no-dashboard
    --tls-ca-file ca.pem --tls-cert scheduler.pem --tls-key scheduler.key`; `dask worker tls://HOST:8786
    --no-dashboard --tls-ca-file ca.pem --tls-cert worker.pem --tls-key worker.key`; `export
    DASK_DISTRIBUTED__COMM__TLS__CA_FILE=ca.pem DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT=client.pem
    DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY=client.key`; `backfill run --dask tls://HOST:8786`. On one machine,
    `backfill run --workers N` needs none of this."""

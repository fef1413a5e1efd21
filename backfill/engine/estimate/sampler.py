"""Sampler: takes samples, of whatever kind the job is, each in a session that ends with it."""

from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from backfill.database.connection import problem_of
from backfill.database.error_text import DRIVER_ERRORS
from backfill.engine.estimate.link_miniature import LinkMiniature
from backfill.engine.estimate.miniature import Miniature
from backfill.engine.estimate.sample import Sample, SampleFailed
from backfill.engine.estimate.value_miniature import ValueMiniature
from backfill.errors import ResultChanged
from backfill.jobs.resolver import Resolver
from backfill.jobs.values import ValueResolver
from backfill.plan import Addresses, InPlaceJob, IntoJob, Job, LinkJob

MOST_BLOCKS = 256  # 2 MB, some 6,000 rows: well under a second on an idle server
FIRST_BLOCKS = 32  # what the first look takes…
QUICK_SECONDS = 0.5  # … and how long it may last, for a larger one to be worth its while
SECONDS = 3.0  # for one look; then the server is too busy to be asked


@dataclass(frozen=True)
class Sampler:
    """What samples need: of links the address table and ``links``, of other kinds ``values``."""

    engine: Engine
    passes: int
    addresses: Addresses | None = None
    links: Resolver | None = None
    values: ValueResolver | None = None

    def take(self, job: Job, most_blocks: int = MOST_BLOCKS) -> Sample:
        """Measure *job*'s table by that many blocks. Raises ``SampleFailed``."""
        with self.engine.connect() as connection:
            try:
                return self._miniature(connection, job, most_blocks).measure()
            except DRIVER_ERRORS as error:
                raise SampleFailed(problem_of(error)) from None
            except ResultChanged:
                raise SampleFailed("a value did not stay what was written") from None
            finally:
                connection.invalidate()  # the temporary tables hold addresses: they go with their session, now

    def best(self, job: Job) -> Sample:
        """A small sample, and where that is quick a larger one: on a busy server small figures are better than none."""
        first = self.take(job, FIRST_BLOCKS)
        if first.share >= 1 or first.took > QUICK_SECONDS:
            return first
        try:
            return self.take(job)
        except SampleFailed:
            return first

    def _miniature(self, connection: Connection, job: Job, most_blocks: int) -> Miniature:
        match job:
            case LinkJob() if self.addresses is not None and self.links is not None:
                return LinkMiniature(
                    connection,
                    self.addresses,
                    job,
                    self.links,
                    passes=self.passes,
                    most_blocks=most_blocks,
                    seconds=SECONDS,
                )
            case InPlaceJob() | IntoJob() if self.values is not None:
                return ValueMiniature(
                    connection,
                    job,
                    self.values,
                    passes=self.passes,
                    most_blocks=most_blocks,
                    seconds=SECONDS,
                )
            case _:
                raise SampleFailed(f'no sample is known of becomes = "{job.becomes}"')

"""Aged: the keys of a job that takes only rows of an age, and the moment at which a run asks how old they are."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, PrivateAttr, model_validator

from backfill.age.age import Age
from backfill.age.time_column import TimeOrNone
from backfill.raw_column import Part


class Aged(Part):
    """With ``after``, only rows that are older are due; without it, every row is due at once."""

    time: TimeOrNone = None
    after: Age | None = None
    max_due: Annotated[int, Field(ge=1, strict=True)] | None = (
        None  # rows; a due run over more of them stops and asks
    )
    _moment: datetime | None = PrivateAttr(None)

    @property
    def moment(self) -> datetime | None:
        """The moment of the run, by the server's clock. None: no run has begun."""
        return self._moment

    def at(self, moment: datetime) -> Self:
        """A copy for one run: whoever asks in it, and whenever, rows are as old as they are at *moment*."""
        copy = self.model_copy()
        copy._moment = moment
        return copy

    @model_validator(mode="after")
    def _age_has_a_time(self) -> Self:
        if self.after is not None and self.time is None:
            raise ValueError("after: it needs time, the column that tells how old a row is")
        if self.max_due is not None and self.after is None:
            raise ValueError("max_due: it bounds what is due at an age, and belongs to after")
        return self

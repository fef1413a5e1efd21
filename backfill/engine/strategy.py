"""Strategy: what a run does once every text is in the map, and how it ends.

The driver has the rest: lock, resume, resolve, recovery, pause and cancel, the last status.
"""

from typing import Protocol

from backfill.engine.run_phases import RunPhases
from backfill.ledger.runs import TableCount


class Strategy(Protocol):
    """Used by one driver, for one run. All of it is called again after a setback: what is done costs a look."""

    @property
    def name(self) -> str:
        """As the ledger has it."""
        ...

    @property
    def keeps_map(self) -> bool:
        """Whether something still looks texts up when the run has succeeded."""
        ...

    def begin(self, phases: RunPhases) -> None:
        """Look at the tables before texts are resolved; called again after each setback. Raises ``DueRefused``."""
        ...

    def work(self, phases: RunPhases) -> None:
        """All phases after resolve. Raises ``MapIncomplete`` where texts have to be resolved again."""
        ...

    def close(self, phases: RunPhases) -> list[TableCount]:
        """Count the rows, from the data, and enter the counts; the driver ends the run."""
        ...

    def clear_up(self, phases: RunPhases) -> None:
        """Remove what a cancelled run would leave beside the ledger; raises nothing that the database says."""
        ...

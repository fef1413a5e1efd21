"""What a sensor is."""

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection


@dataclass(frozen=True)
class Breach:
    """What is wrong, in the operator's words: the thing, its value, its limit."""

    sensor: str
    reason: str


class Sensor(Protocol):
    """Looks at one thing that may be hurting; cheap enough to be asked every second."""

    name: str

    def check(self, connection: Connection) -> Breach | None:
        """Look; *connection* is to the primary, in a transaction of its own."""
        ...

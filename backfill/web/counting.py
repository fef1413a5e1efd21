"""The callback that counts events: a fault in it must not cost a request."""

import logging
from collections.abc import Callable

from backfill.web.event import Event

logger = logging.getLogger(__name__)


def guarded(count: Callable[[Event], object] | None) -> Callable[[Event], None]:
    """*count*, whose exceptions are logged and go no further."""

    def counted(event: Event) -> None:
        if count is not None:
            try:
                count(event)
            except Exception:
                logger.exception("The callback that counts %s failed", event.value)

    return counted

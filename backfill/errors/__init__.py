"""Everything that can go wrong, as one small hierarchy: ``from backfill.errors import …``, whichever file has it.

The docstring of a class is its message; ``{names}`` in it are filled from keyword arguments, which
stay readable as attributes. A message names the file, table, row key or setting and what to do
next, and never holds a raw address or the salt. ``backfill/cli`` alone turns an error into a line and an
exit code.
"""

from backfill.errors.base import *
from backfill.errors.database import *
from backfill.errors.inputs import *
from backfill.errors.rows import *
from backfill.errors.runs import *
from backfill.errors.shadow import *

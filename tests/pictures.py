"""Takes the pictures of the report again, in a headless Chromium: ``make pictures``.

The report is that of a demo that goes the whole way, in a folder of its own; or the file named on the command line.
The PDF, for whoever looks at the pages, goes to ``.cache``.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.browser import FLAGS, chromium
from tests.operator import BIN, ROOT

DOCS, PRINTED = ROOT / "docs", ROOT / ".cache" / "report.pdf"
DARK = "--blink-settings=preferredColorScheme=0"


def take(page: Path, folder: Path) -> None:
    """The pictures of *page*; profiles and what else is in between go to *folder*."""
    program = chromium()
    if program is None:
        sys.exit("No Chromium is here (Debian: apt-get install chromium)")
    PRINTED.parent.mkdir(exist_ok=True)
    for words in (
        [f"--screenshot={DOCS / 'report.png'}", "--window-size=1100,1600"],
        [f"--screenshot={DOCS / 'report-dark.png'}", "--window-size=1100,1600", DARK],
        [f"--screenshot={DOCS / 'report-narrow.png'}", "--window-size=320,1200"],
        [f"--print-to-pdf={PRINTED}", "--no-pdf-header-footer"],
    ):
        command = [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", *words, page.as_uri()]
        subprocess.run(command, capture_output=True, check=True, timeout=120)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="backfill-pictures-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        if sys.argv[1:]:
            take(Path(sys.argv[1]).resolve(), folder)
            return 0
        own = {key: value for key, value in os.environ.items() if not key.startswith("BACKFILL_")}
        own["BACKFILL_HOME"] = str(folder / "home")
        try:
            tour = [BIN / "backfill", "demo", "--tour", "--events", "20000"]
            subprocess.run(tour, env=own, check=True, stdout=subprocess.DEVNULL)
            take(folder / "home" / "report.html", folder)
        finally:
            subprocess.run([BIN / "backfill", "server", "stop", "--delete"], env=own, check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())

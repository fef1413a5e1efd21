"""A headless Chromium, driven by its command line alone: what it renders, says, and asks the network for."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=3000",
]


def chromium() -> str | None:
    """The browser's path, where there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@dataclass(frozen=True)
class Visit:
    """One page, opened from disk."""

    dom: str
    console: list[str]
    requests: list[str]


def visit(page: Path, folder: Path, *, screenshot: Path | None = None, dark: bool = False) -> Visit:
    """Open *page* with a fresh profile under *folder*."""
    program = chromium()
    assert program, "no Chromium here"
    net_log = folder / "net.json"
    what = [f"--screenshot={screenshot}", "--window-size=1100,1600"] if screenshot else ["--dump-dom"]
    done = subprocess.run(
        [
            program,
            *FLAGS,
            *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={net_log}",
            *what,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return Visit(
        dom=done.stdout,
        console=[line for line in done.stderr.splitlines() if ":CONSOLE" in line],
        requests=_requests(net_log),
    )


def _requests(net_log: Path) -> list[str]:
    """URLs that a request was begun for, other than files and data; the browser's own chatter left out."""
    log = json.loads(net_log.read_text())
    begun = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    urls = [
        event["params"]["url"]
        for event in log["events"]
        if event["type"] == begun and "url" in event.get("params", {})
    ]
    return [url for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss") and not _own(url)]


def _own(url: str) -> bool:
    """The browser asking its maker for updates and the time, which no flag keeps it from quite."""
    return f".{urlsplit(url).hostname}".endswith((".google.com", ".googleapis.com", ".gvt1.com"))

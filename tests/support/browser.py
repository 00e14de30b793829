"""Opens a page in a headless browser and tells what became of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
WAIT_S: Final = 90
_CONSOLE: Final = re.compile(r":CONSOLE[:(].*", re.IGNORECASE)


class Opened(NamedTuple):
    """A page after its scripts ran: the document as it stands, and what was written to the console."""

    dom: str
    console: list[str]

    @property
    def plots(self) -> set[str]:
        """Ids of the plots that have been drawn."""
        names = re.findall(r'<div id="(\w+)" class="plotly-graph-div[^"]*js-plotly-plot"', self.dom)
        return {name for name in names if '<svg class="main-svg"' in self.dom.partition(f'id="{name}"')[2]}


def find() -> str | None:
    """The browser's path; None when there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def open_page(browser: str, page: Path) -> Opened:
    """Open a local page, let its scripts run, and close the browser."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0",
                "--virtual-time-budget=10000", "--dump-dom", page.as_uri(),
            ],
            capture_output=True, text=True, timeout=WAIT_S, check=True,
        )  # fmt: skip
    return Opened(done.stdout, _CONSOLE.findall(done.stderr))

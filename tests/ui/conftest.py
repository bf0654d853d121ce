"""A browser, a page whose every received answer can be read afterwards, and the screenshots of the documentation.

Nothing here is imported from Playwright at load: without it, or without Chromium, the tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from local_airflow import LocalAirflow
from local_processes import HOST

from tests.ui.forms import CLIPBOARD

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

EXAMPLES = Path(__file__).parents[2] / "dags"
CHROMIUM = Path("/usr/bin/chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PATIENCE = 20_000  # ms: the machine that runs the browser runs an Airflow too

Picture = Callable[..., None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def airflow_with(example: str, folder: Path, **environment: str) -> Iterator[LocalAirflow]:
    """Run an Airflow whose only DAG file is one of the examples."""
    (folder / "dags").mkdir()
    shutil.copy(EXAMPLES / example, folder / "dags")
    with LocalAirflow(folder / "home", folder / "dags", free_port(), env=environment) as running:
        running.wait_for_dags()
        yield running


class Visit:
    """One browser context with one page. `answers` closes it and gives all that the page received."""

    def __init__(self, context: BrowserContext, har: Path) -> None:
        self.context, self.har = context, har
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE)

    def answers(self) -> dict[str, str]:
        """Give the body of every text that the server sent, by method, URL and number. Scripts of the page are left out."""
        self.context.close()
        entries = json.loads(self.har.read_text())["log"]["entries"]
        return {
            f"{number} {entry['request']['method']} {entry['request']['url']}": entry["response"]["content"].get("text", "")
            for number, entry in enumerate(entries)
            if "javascript" not in entry["response"]["content"].get("mimeType", "")
        }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. For one module only: while Playwright runs, nothing else in this thread can start an event loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: run `make test-ui`")
    if not CHROMIUM.exists():
        pytest.skip(f"There is no {CHROMIUM}: install Debian's package chromium")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    """A fresh browser context; the page may use the clipboard, as a user's key strokes do."""
    har = tmp_path / "received.har"
    context = browser.new_context(viewport={"width": 1200, "height": 900}, record_har_path=har, permissions=CLIPBOARD)
    yield Visit(context, har)
    context.close()


@pytest.fixture
def picture() -> Picture:
    """Take a screenshot for the documentation, if IMAGES names the folder for them: `picture(page or locator, name)`."""

    def take(shown: object, name: str, **options: object) -> None:
        if folder := os.environ.get("IMAGES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            shown.screenshot(path=Path(folder, f"{name}.png"), animations="disabled", **options)

    return take

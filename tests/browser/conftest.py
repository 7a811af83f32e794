"""A real browser and a real studio: web server, worker and the bundled model, started once for all browser tests."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

# A shared machine may be slow to load torch, and is slow to make music.
MAKES_A_TAKE_MS = 240_000
STARTS_S = 240

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"))


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    args = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": args}


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run `manage.py studio` on a free port and a data folder of its own; gives its URL."""
    environment = os.environ | {
        "REPRISE_DATA": str(tmp_path_factory.mktemp("studio")),
        "REPRISE_MODELS": "sketch=bundled",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    command = [sys.executable, "manage.py", "studio", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    found = None
    for line in process.stdout:
        if found := re.search(r"http://[\d.]+:\d+", line):
            break
    assert found, "the studio did not start"
    yield found[0]
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


@pytest.fixture
def open_studio(studio: str, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page in a browser of its own; afterwards nothing may have gone wrong in it."""
    contexts: list[BrowserContext] = []
    wrong: list[str] = []

    def open_studio(**options: Any) -> Page:
        context = browser.new_context(base_url=studio, **{"viewport": DESKTOP} | options)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error(`CSP: ${e.effectiveDirective}`))"
        )
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda message: wrong.append(message.text) if "CSP:" in message.text else None)
        page.on("request", lambda request: wrong.append(request.url) if is_foreign(request.url, studio) else None)
        return page

    yield open_studio
    for context in contexts:
        context.close()
    assert not wrong


def is_foreign(url: str, studio: str) -> bool:
    return urlsplit(url).netloc != urlsplit(studio).netloc


@pytest.fixture(scope="session")
def take_page(studio: str, browser: Browser) -> str:
    """Make one take of four seconds through the page; gives the path of its job's page."""
    expect.set_options(timeout=30_000)
    context = browser.new_context(base_url=studio)
    page = context.new_page()
    page.goto("/?caption=soft+strings&duration=4&inference_steps=4&seed=7")
    page.get_by_role("button", name="Generate").click()
    made = page.locator(".job.succeeded", has_text="soft strings")
    made.wait_for(timeout=MAKES_A_TAKE_MS)
    path = made.locator("h3 a").get_attribute("href")
    context.close()
    assert path
    return path

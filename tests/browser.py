"""A headless browser for tests of pages: Debian's Chromium, driven by playwright, with nothing beyond loopback."""

import ipaddress
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route, WebSocketRoute

WIDTH, HEIGHT = 1280, 900
# Milliseconds that a page may take to show what a test waits for, on a busy machine.
PATIENCE = 60_000


@pytest.fixture
def beyond_loopback() -> list[str]:
    """Addresses beyond this machine that `page` asked for and did not get; what a test asserts to be empty."""
    return []


@pytest.fixture
def page(beyond_loopback: list[str]) -> "Iterator[Page]":
    """A fresh page of 1,280 x 900 pixels; the test is skipped where there is no Chromium.

    Until the test ends an event loop of playwright's runs in this thread: the test may not call `asyncio.run`.
    """
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium on PATH")
    # Here, as only tests of pages need it.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=os.geteuid() != 0)
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        context.set_default_timeout(PATIENCE)

        def answer(route: "Route") -> None:
            if _is_here(route.request.url):
                route.continue_()
            else:
                beyond_loopback.append(route.request.url)
                route.abort()

        def connect(socket: "WebSocketRoute") -> None:
            beyond_loopback.append(socket.url)
            socket.close()

        context.route("**/*", answer)
        context.route_web_socket(lambda url: not _is_here(url), connect)
        yield context.new_page()
        browser.close()


def _is_here(url: str) -> bool:
    """Whether an address is a file, a part of the page itself, or a server of this machine."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss"):
        return True
    host = parts.hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

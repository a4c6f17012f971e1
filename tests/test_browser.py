"""The browser of tests shows pages of this machine, and nothing beyond it."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.slow


def test_a_page_runs_and_gets_nothing_from_beyond_loopback(
    page: Page, beyond_loopback: list[str], tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(
        "<p id=found></p><script>"
        "found.textContent = innerWidth;"
        "for (const url of ['http://192.0.2.1/a.js', 'https://example.org/b.png']) fetch(url).catch(() => {});"
        "new WebSocket('ws://192.0.2.1/c');"
        "</script>"
    )
    page.goto(f"file://{tmp_path}/page.html")
    expect(page.locator("#found")).to_have_text("1280")
    page.wait_for_timeout(200)
    assert sorted(beyond_loopback) == ["http://192.0.2.1/a.js", "https://example.org/b.png", "ws://192.0.2.1/c"]

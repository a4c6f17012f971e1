"""The page in a browser: the verdict fits the first screen, and nothing is cut off, wide or narrow, light or dark."""

from typing import Any

from tests.pipelines.report.conftest import Workspace

# Elements whose content is wider than they are, but for drawings; all details are opened first.
CUT_OFF = """() => {
  document.querySelectorAll("details").forEach(one => one.open = true);
  return [...document.querySelectorAll("body, body *")]
    .filter(one => !one.closest("svg") && one.clientWidth && one.scrollWidth > one.clientWidth + 1)
    .map(one => one.tagName + " " + one.className + " " + one.textContent.trim().slice(0, 60));
}"""
CONTRAST = """selector => {
  const channels = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = colour => channels(colour).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(selector)].map(one => light(getComputedStyle(one).color))
    .map(ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
}"""


def test_the_verdict_fits_the_first_screen_and_nothing_is_cut_off(workspace: Workspace, page: Any) -> None:
    workspace.train("clip")
    workspace.train("regionmed_clip")
    workspace.run()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto((workspace.root / "data/report/index.html").as_uri())
    assert page.locator("#verdict .findings").first.bounding_box()["height"] > 100
    box = page.locator("#verdict").bounding_box()
    assert box["y"] + box["height"] <= 800
    for width in (1280, 500):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(CUT_OFF) == [], width
    # The Web Content Accessibility Guidelines ask for a contrast of 4.5 (1.4.3).
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate(CONTRAST, ".findings .chip, .findings li, .action, .soft, h2")
        assert len(found) > 20
        assert min(found) >= 4.5, scheme

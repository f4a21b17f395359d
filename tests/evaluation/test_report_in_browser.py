"""Open the report in a real browser: nothing requested, nothing broken, every character drawn."""

from __future__ import annotations

import shutil

import pytest

from seqjourney.commands.evaluate import evaluate
from seqjourney.evaluation.predictions import write_predictions

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")

# Draws each distinct character of the page, and U+FFFF (a noncharacter, which no font has), in
# the page's own font: one that looks like U+FFFF is a missing glyph.
MISSING_GLYPHS = """
() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 40;
  const pen = canvas.getContext("2d", {willReadFrequently: true});
  const draw = (character, font) => {
    pen.clearRect(0, 0, 40, 40);
    pen.font = "24px " + font;
    pen.textBaseline = "alphabetic";
    pen.fillText(character, 6, 30);
    return pen.getImageData(0, 0, 40, 40).data.join();
  };
  const missing = [];
  for (const element of [document.body, document.querySelector("figure svg text"),
                         document.querySelector("code")]) {
    const font = getComputedStyle(element).fontFamily;
    const box = draw("\\uFFFF", font);
    const blank = draw(" ", font);
    for (const character of new Set(document.body.textContent + EXTRA)) {
      if (/\\s/.test(character)) continue;
      const drawn = draw(character, font);
      if (drawn === box || drawn === blank) missing.push(character);
    }
  }
  return missing;
}
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, synthetic):
    folder = tmp_path_factory.mktemp("browser")
    names = {"gru": 0.6, "transformer_with_a_rather_long_name": 0.7, "<b>rule</b> \"'&$": 1.6}
    runs = []
    for number, frame in enumerate(synthetic(names=names)):
        runs.append(folder / str(number))
        write_predictions(frame, runs[-1] / "predictions.parquet")
    return evaluate(runs, folder / "out", title="Churn, seen by a browser", replicates=40).html


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
            )
        except sync_api.Error as error:
            pytest.skip(f"chromium does not start here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


def test_the_page_opens_without_errors_or_requests(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri(), wait_until="load")
    page.wait_for_timeout(200)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.locator("figure svg").count() == 5
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_body_never_scrolls_sideways(browser, report, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_main_tables_fit_a_laptop_without_scrolling(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(report.as_uri())
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(b => b.scrollWidth - b.clientWidth)"
    )
    assert max(boxes) <= 1
    page.close()


def test_every_character_has_a_glyph(browser, report):
    page = browser.new_page()
    page.goto(report.as_uri())
    assert page.evaluate(MISSING_GLYPHS.replace("EXTRA", '""')) == []
    # The check itself works: an unassigned code point is found.
    assert "\u0378" in page.evaluate(MISSING_GLYPHS.replace("EXTRA", '"\u0378"'))
    page.close()


def test_pictures_keep_their_text_inside(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(report.as_uri())
    outside = page.evaluate(
        """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
             const frame = svg.getBoundingClientRect();
             return [...svg.querySelectorAll("text")].filter(text => {
               const box = text.getBoundingClientRect();
               return box.left < frame.left - 2 || box.right > frame.right + 2
                   || box.top < frame.top - 2 || box.bottom > frame.bottom + 2;
             }).map(text => text.textContent);
           })"""
    )
    assert outside == []
    page.close()

"""Open the report in a real browser: nothing requested, nothing broken, every character drawn."""

from __future__ import annotations

import pytest

from pages import assert_fits, assert_opens_quietly
from seqjourney.commands.evaluate import evaluate
from seqjourney.evaluation.predictions import write_predictions

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


def test_the_page_opens_without_errors_or_requests(browser, report):
    page = assert_opens_quietly(browser, report)
    assert page.locator("figure svg").count() == 5
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_body_never_scrolls_sideways_and_pictures_keep_their_text(browser, report, width):
    assert_fits(browser, report, width)


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

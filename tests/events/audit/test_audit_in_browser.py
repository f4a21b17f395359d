"""Open the audit in a real browser: nothing requested, nothing broken, nothing run, nothing cut."""

from __future__ import annotations

import shutil

import pytest

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on the PATH")

OUTSIDE = """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter(text => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left - 2 || box.right > frame.right + 2
        || box.top < frame.top - 2 || box.bottom > frame.bottom + 2;
  }).map(text => text.textContent);
})"""
OVERLAPPING = """() => [...document.querySelectorAll("figure svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")].map(t => [t, t.getBoundingClientRect()]);
  return texts.flatMap(([a, p], i) => texts.slice(i + 1).filter(([b, q]) =>
    p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3
  ).map(([b, _]) => a.textContent + " / " + b.textContent));
})"""


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


def test_the_page_opens_without_errors_requests_or_dialogs(browser, audited):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(audited.html.as_uri(), wait_until="load")
    page.wait_for_timeout(200)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [audited.html.as_uri()]
    assert page.locator("figure svg").count() == 5
    assert page.locator("table.rows tbody tr").count() == len(audited.content["rows"])
    assert page.locator("body").inner_text().count("<script>alert(1)</script>") >= 2
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_body_never_scrolls_sideways_and_pictures_keep_their_text(browser, audited, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(audited.html.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate(OVERLAPPING) == []
    page.close()


def test_a_verdict_is_told_by_word_and_shape_and_not_by_colour_alone(browser, audited):
    page = browser.new_page()
    page.goto(audited.html.as_uri())
    shapes = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("td .badge")].map(
             badge => [badge.textContent.trim(), badge.querySelector("svg").innerHTML]))"""
    )
    assert set(shapes) == {row["status"] for row in audited.content["rows"]}
    assert len(set(shapes.values())) == len(shapes)
    page.close()


def test_the_table_fits_a_printed_page(browser, audited):
    page = browser.new_page(viewport={"width": 690, "height": 1000})  # A4 less its margins
    page.emulate_media(media="print")
    page.goto(audited.html.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 690
    page.close()

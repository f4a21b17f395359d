"""Open the audit in a real browser: nothing requested, nothing broken, nothing run, nothing cut."""

from __future__ import annotations

import pytest

from pages import assert_fits, assert_opens_quietly


def test_the_page_opens_without_errors_requests_or_dialogs(browser, audited):
    page = assert_opens_quietly(browser, audited.html)
    assert page.locator("figure svg").count() == 5
    assert page.locator("table.rows tbody tr").count() == len(audited.content["rows"])
    assert page.locator("body").inner_text().count("<script>alert(1)</script>") >= 2
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_body_never_scrolls_sideways_and_pictures_keep_their_text(browser, audited, width):
    assert_fits(browser, audited.html, width)


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

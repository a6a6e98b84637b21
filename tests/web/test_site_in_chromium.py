"""The site of the documentation, as a browser shows it, also on a phone."""

import pytest
from browser import chromium, look
from documentation import build_site

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build_site(folder)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_window(site, browser, width):
    look(browser, width)
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    too_wide = {}
    for page in pages:
        browser.get(page.as_uri())
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        if wide > width:
            too_wide[str(page.relative_to(site))] = wide
    assert too_wide == {}


def test_pictures_are_there_and_nothing_is_asked_of_others(site, browser):
    look(browser, 1280)
    browser.get_log("browser")
    for page in site.rglob("*.html"):
        browser.get(page.as_uri())
        broken = browser.execute_script(
            "return [...document.images].filter(image => !image.naturalWidth).map(image => image.src)"
        )
        assert broken == [], page
        asked = browser.execute_script(
            "return performance.getEntriesByType('resource').map(each => each.name)"
        )
        assert [each for each in asked if not each.startswith("file:")] == [], page
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_menu_of_a_phone_opens_and_leads_on(site, browser):
    look(browser, 390)
    browser.get((site / "index.html").as_uri())
    menu = browser.find_element("css selector", ".nav-overlay-icon")
    link = browser.find_element("css selector", ".sidebar-tree a[href='guides/pool-size.html']")
    assert not link.is_displayed() or link.rect["x"] < 0
    menu.click()
    browser.execute_async_script("setTimeout(arguments[0], 500)")  # it glides in
    assert link.is_displayed()
    link.click()
    assert browser.title.startswith("How large")

"""The site is built without a warning; its links lead somewhere; it has all that is public."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from documentation import ROOT, build_site
from sphinx.util.inventory import InventoryFile

import aiopool


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build_site(folder)
    return folder


class Links(HTMLParser):
    """What a page points to, and what of it can be pointed to."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.to: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - the parser's method
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.to.add(value)
            if name == "id":
                self.anchors.add(value)


def test_every_link_within_the_site_leads_somewhere(site):
    pages = {page: Links(page) for page in site.rglob("*.html")}
    assert len(pages) > 10
    dead = []
    for page, links in pages.items():
        for link in links.to:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            there = target in pages and unquote(parts.fragment) in pages[target].anchors
            if not there and (target in pages or not target.exists()):
                dead.append(f"{page.relative_to(site)}: {link}")
    assert dead == []


def test_every_page_is_in_the_site_and_found_from_its_first(site):
    said = {
        page.relative_to(ROOT / "docs").with_suffix(".html")
        for page in (ROOT / "docs").rglob("*")
        if page.suffix in {".md", ".ipynb"}
    }
    built = {page.relative_to(site) for page in site.rglob("*.html")}
    assert said <= built
    first = Links(site / "index.html").to
    assert {str(page) for page in said} - {"index.html"} <= {
        link.partition("#")[0] for link in first
    }


def test_the_page_of_a_notebook_has_its_code_and_what_that_says(site):
    page = (site / "examples" / "walkthrough.html").read_text()
    shown = unescape(re.sub("<[^>]+>", "", page))
    assert 'redis.set("walkthrough:greeting", "hello")\nprint(' in shown
    assert "in line ['Cem', 'Dee', 'Eve']\n" in shown
    assert "cell_type" not in shown


def test_every_public_name_is_in_the_reference(site):
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    described = {
        name for kind, names in inventory.items() if kind.startswith("py:") for name in names
    }
    assert {f"aiopool.{name}" for name in aiopool.__all__} <= described

"""The page, as a browser shows it: Chromium, driven by its own driver, from a service in another process."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from browser import chromium, look

from aiopool._cli._redis_server import free_port, redis_server

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
SECRET = "s3cret"  # noqa: S105 - not one that matters


class Service:
    """The process whose pools are shown."""

    def __init__(self, redis):
        port = free_port()
        wrong = redis.replace("redis://", f"redis://us3r:{SECRET}@")
        self.words = [redis, wrong, str(port), HOSTILE]
        self.url = f"http://127.0.0.1:{port}/debug/pool"
        self.start()

    def start(self):
        script = Path(__file__).with_name("service.py")
        self.process = subprocess.Popen([sys.executable, "-W", "error", str(script), *self.words])  # noqa: S603 - its own words

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def snapshot(self):
        with urllib.request.urlopen(f"{self.url}/snapshot.json") as answer:  # noqa: S310 - it is http
            return json.load(answer)


@pytest.fixture(scope="module")
def service():
    with redis_server() as redis:
        service = Service(redis)
        yield service
        service.stop()


@pytest.fixture(scope="module")
def page(service, tmp_path_factory):
    """A browser that shows the page, with a minute of patience."""
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        page = Page(browser)
        look(browser, 1200)
        page.until(lambda: _answers(service), "the service answers")
        browser.get(service.url)  # without a slash: it is told where the page is
        page.until(lambda: page.state == "live", "it is live")
        yield page


def _answers(service):
    try:
        return service.snapshot()
    except OSError:
        return None


class Page:
    def __init__(self, browser):
        self.browser = browser

    def until(self, condition, what, within=60):
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"not within {within} s: {what}"
            time.sleep(0.05)

    def ask(self, expression):
        return self.browser.execute_script(f"return {expression}")

    @property
    def state(self):
        return self.ask("document.getElementById('state').textContent")

    @property
    def text(self):
        return self.ask("document.body.innerText")

    def number(self, name, card=0):
        """Give the text of one of the totals."""
        return self.ask(
            f"[...document.querySelectorAll('article')[{card}].querySelectorAll('dl div')]"
            f".find(each => each.firstChild.textContent === {name!r}).lastChild.textContent"
        )

    def rows(self, what, card=0):
        return self.ask(
            f"[...document.querySelectorAll('article')[{card}].querySelectorAll('.{what} tr')]"
            ".map(row => [...row.cells].map(cell => cell.textContent))"
        )


# ---- what is shown -------------------------------------------------------------------------------


def test_the_numbers_are_the_pools_and_move(page, service):
    def acquired():
        return int(page.number("acquired").replace(",", ""))

    before = service.snapshot()["pools"][0]["stats"]["acquired"]
    page.until(lambda: acquired() > before, "the number moves")
    first = acquired()
    assert first <= service.snapshot()["pools"][0]["stats"]["acquired"]
    page.until(lambda: acquired() > first, "it moves on")
    # Sparklines of what a second brought, which is not nothing.
    page.until(
        lambda: (
            page.ask("document.querySelectorAll('article .stroke')[2].getAttribute('d')").count("L")
            >= 2
        ),
        "there is a line of three points",
    )
    rate = page.ask("document.querySelectorAll('article output')[2].textContent")
    assert float(rate.replace(",", "")) > 10


def test_all_pools_are_shown_with_who_has_connections_and_who_waits(page, service):
    names = page.ask("[...document.querySelectorAll('h2')].map(each => each.textContent)")
    assert names == [pool["name"] for pool in service.snapshot()["pools"]]
    assert names[1:] == ["small", "refused-" * 40, "leaky"]
    assert [row[1] for row in page.rows("holders", 1)] == ["patient 0"]
    waiters = page.rows("line", 1)
    assert [row[1] for row in waiters] == [f"patient {n}" for n in range(1, 51)]
    assert "and 9 more" in page.text
    assert "all 1 are lent; 59 in line, the first for " in page.text
    assert page.ask("document.querySelector('.gauge').getAttribute('aria-label')").startswith(
        "lent "
    )


def test_who_has_a_connection_for_long_is_marked(page):
    marked = "document.querySelectorAll('article')[1].querySelectorAll('.holders tr.long').length"
    page.until(lambda: page.ask(marked) == 1, "it is marked")
    assert page.ask("document.querySelectorAll('.line tr.long').length") == 0


def test_a_holder_that_has_ended_is_marked_at_once_and_the_word_is_seen(page):
    ((_, task, _),) = page.rows("holders", 3)
    assert task == "ended: " + "forgetful " * 20
    assert (
        page.ask("document.querySelectorAll('article')[3].querySelectorAll('tr.long').length") == 1
    )
    word = "document.querySelectorAll('article')[3].querySelectorAll('td')[1].firstChild"
    assert page.ask(f"getComputedStyle({word}).color") == page.ask(
        "getComputedStyle(document.querySelectorAll('article')[3].querySelector('td')).color"
    )
    assert "ended" not in page.ask("document.querySelectorAll('article')[1].innerText")


def test_a_hostile_name_is_text(page):
    _, task, where = page.rows("holders")[0]
    assert task == HOSTILE
    assert where.endswith("in hold")
    assert page.ask("document.title").endswith("lent · aiopool")
    assert page.ask("document.querySelectorAll('main script, main img').length") == 0


def test_a_failed_opening_is_told_without_secrets(page):
    assert "The last opening failed: AuthenticationError" in page.text
    for word in (SECRET, "us3r"):
        assert word not in page.browser.page_source


def test_nothing_but_the_service_is_asked_for_anything_and_nothing_is_complained_of(page, service):
    log = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    requests = [each["params"] for each in log if each["method"] == "Network.requestWillBeSent"]
    # The browser has pages of its own, which is what it shows first.
    urls = {
        each["request"]["url"] for each in requests if each["documentURL"].startswith(service.url)
    }
    assert f"{service.url}/snapshot.json" in urls
    assert urls <= {service.url, f"{service.url}/", f"{service.url}/snapshot.json", "data:,"}
    assert page.browser.get_log("browser") == []


def test_a_script_from_elsewhere_would_not_run(page):
    page.browser.execute_script(
        "const script = document.createElement('script');"
        "script.textContent = 'document.title = \"owned\"';"
        "document.body.append(script)"
    )
    assert page.ask("document.title") != "owned"
    (complaint,) = page.browser.get_log("browser")
    assert "Content Security Policy" in complaint["message"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 800, 1200])
def test_no_width_has_to_be_scrolled_sideways(page, tmp_path, width, scheme):
    look(page.browser, width, scheme)
    assert page.ask("innerWidth") == width
    assert page.ask("document.documentElement.scrollWidth") == width
    overflowing = (
        "[...document.querySelectorAll('figcaption, figure output, .legend, dl, .closed')]"
    )
    overflowing += (
        ".filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.outerHTML)"
    )
    assert page.ask(overflowing) == []
    paper = page.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")
    assert page.browser.save_screenshot(str(tmp_path / f"{width}-{scheme}.png"))


def test_it_says_when_the_service_is_gone_and_goes_on_when_it_is_back(page, service):
    pid = service.snapshot()["pid"]
    assert f"process {pid}" in page.text
    service.stop()
    page.until(lambda: page.state.startswith("the service does not answer since "), "it says so")
    assert page.rows("holders", 1) != []  # as it was
    assert page.ask("document.title") == "gone · aiopool"
    service.start()
    page.until(lambda: page.state == "live", "it is live again")
    assert f"process {pid}" not in page.text
    page.until(lambda: page.rows("holders", 1), "the new process's are shown")
    assert page.ask("document.querySelectorAll('article').length") == 4

"""Chromium, driven by its own driver."""

import shutil
from contextlib import contextmanager

import pytest

# Nothing of Chromium's own that would look for the world.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
]


@contextmanager
def chromium(profile):
    # Here, since this file is read also where there is no such thing, and no such test is run.
    from selenium.webdriver import Chrome, ChromeOptions  # noqa: PLC0415 - as it says
    from selenium.webdriver.chrome.service import Service as Driver  # noqa: PLC0415 - likewise

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or pytest.fail("there is no chromium")
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    # With the driver's path nothing looks for another, here or elsewhere.
    driver = shutil.which("chromedriver") or pytest.fail("there is no chromedriver")
    browser = Chrome(options, Driver(driver))
    try:
        yield browser
    finally:
        browser.quit()


def look(browser, width, scheme="light"):
    """Look as a device of this width does."""
    metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

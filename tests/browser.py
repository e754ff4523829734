"""A real browser for the tests of web pages: headless Chromium, driven by selenium."""

import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("SE_AVOID_STATS", "true")  # selenium, tell nobody
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def missing():
    """Why there is no browser here; empty if there is one."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install -e '.[dev]'"
    for name in ("chromium", "chromedriver"):
        if not shutil.which(name):
            return f"{name} is not installed: apt-get install chromium chromium-driver"
    return ""


@contextmanager
def chromium():
    """A browser that has never been used before, and is gone afterwards."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,1000"):
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_script_timeout(120)
            yield Browser(driver)
        finally:
            driver.quit()


class Browser:
    """What the tests do with a page, in few words."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path):
        """Open a file."""
        self.driver.get(Path(path).absolute().as_uri())

    def run(self, code, *args):
        """What JavaScript returns."""
        return self.driver.execute_script(code, *args)

    def find(self, selector):
        """The first element that matches."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        """All elements that match."""
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        """The text of an element, with all its white space."""
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def keys(self, *keys):
        """Press keys where the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def hover(self, element):
        """Point at an element."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).perform()

    def until(self, code, seconds=120):
        """Wait until JavaScript returns something true, and return it."""
        end = time.monotonic() + seconds
        while not (found := self.run(code)):
            assert time.monotonic() < end, f"waited {seconds} s for: {code}"
            time.sleep(0.02)
        return found

    def screen(self, width=1280, height=1000, dark=False):
        """Another size of the window; below 500 pixels, which no window can be, that of a phone."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})

    def complaints(self):
        """What the console has said since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def picture(self, path):
        """Write what the window shows, as PNG."""
        assert self.driver.save_screenshot(str(path))

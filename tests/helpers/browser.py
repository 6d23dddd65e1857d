"""A headless browser for tests of pages; it opens files and reaches no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)

#: Seconds that anything may take.
_PATIENCE = 60.0


class Browser:
    """One window; what it asked for and complained about is kept until it is looked at."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        driver.set_script_timeout(_PATIENCE)

    def window(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Size of the window, and the colours that its user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, path: Path) -> None:
        """Open a file; returns when every figure of a report is drawn."""
        self.complaints()
        self.requests()
        self.driver.get(path.resolve().as_uri())
        self.until_drawn()

    def until_drawn(self) -> None:
        """Wait for the figures."""
        self.until(lambda: self.run("return document.body.classList.contains('ready')"))

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something."""
        WebDriverWait(self.driver, _PATIENCE, poll_frequency=0.05).until(lambda _: condition())

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns, of JSON types."""
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """The texts of elements, as their user reads them."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText)",
            selector,
        )
        return found

    def click(self, selector: str, number: int = 0) -> None:
        """Click on one of the elements."""
        self.driver.find_elements("css selector", selector)[number].click()

    def complaints(self) -> list[str]:
        """What is new in the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses that were newly asked for."""
        events = [
            json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")
        ]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, from the programs that are installed."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        # A new tab asks for parts of the browser's own page.
        driver.get("about:blank")
        yield Browser(driver)
    finally:
        driver.quit()

"""The explorer in a real browser: Debian's Chromium without a window, a service on loopback."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[3]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
STARTS = 5  # chromedriver gives a busy machine a minute for each
PATIENCE = float(os.environ.get("CRATER_RAY_PATIENCE", "60"))  # seconds that something may take to appear


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A driver of the one browser of all tests."""
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no chromium and chromedriver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install selenium"
    )
    from selenium.common import exceptions

    options = webdriver.ChromeOptions()
    options.binary_location = program
    # --no-sandbox: root, as in a container, gets no browser otherwise; only our own pages are opened
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for attempt in range(STARTS):
        try:
            browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
            break
        except exceptions.SessionNotCreatedException:
            if attempt + 1 == STARTS:
                raise
    browser.set_page_load_timeout(PATIENCE)
    browser.set_script_timeout(PATIENCE)
    yield browser
    browser.quit()


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serves an ASGI application on a port of its own; returns the page's address."""
    import uvicorn

    running: list[tuple[Any, threading.Thread]] = []

    def start(app: Any) -> str:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
        server, up = uvicorn.Server(config), threading.Event()
        begin = server.startup

        async def startup(*arguments: Any, **more: Any) -> None:
            await begin(*arguments, **more)
            up.set()

        server.startup = startup  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        running.append((server, thread))
        assert up.wait(PATIENCE)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"

    yield start
    for server, thread in running:
        server.should_exit = True
        server.force_exit = True
        thread.join(PATIENCE)


@dataclass
class Page:
    """The explorer as a user has it before them."""

    browser: Any
    address: str

    def open(self, query: str = "") -> Page:
        self.browser.get(self.address + query)
        return self

    def script(self, text: str, *arguments: Any) -> Any:
        return self.browser.execute_script(text, *arguments)

    def until(self, condition: str, *arguments: Any) -> Any:
        """Waits for a JavaScript expression to hold; its value."""
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.browser, PATIENCE, poll_frequency=0.1)
        return wait.until(lambda _: self.script(f"return {condition}", *arguments), condition)

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def rows(self, mode: str = "shortlist") -> list[dict[str, str]]:
        """The hits on the screen, once there are any."""
        self.until(
            "document.querySelector(`ol[data-mode=${arguments[0]}] li`) && "
            "document.getElementById('hits').getAttribute('aria-busy') === 'false'",
            mode,
        )
        return list(
            self.script(
                "return [...document.querySelectorAll(`ol[data-mode=${arguments[0]}] li`)].map(li => ({"
                "id: li.querySelector('strong').textContent, score: li.querySelector('.score').textContent,"
                "rank: li.querySelector('.rank').textContent,"
                "text: [...li.querySelectorAll('.where')].map(one => one.textContent).join('|')"
                ".replaceAll('\\u00a0', ' '),"
                "tags: li.querySelector('.tags').textContent, chosen: li.getAttribute('aria-selected')}))",
                mode,
            )
        )

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def keys(self, *keys: str) -> None:
        """Pressed on whatever has the focus."""
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(*keys).perform()

    def shot(self, name: str) -> Path:
        from selenium.common import exceptions

        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        for attempt in range(STARTS):
            try:
                self.browser.save_screenshot(str(path))
                return path
            except exceptions.TimeoutException:  # chromedriver gives a busy machine ten seconds
                if attempt + 1 == STARTS:
                    raise
        return path

    def errors(self) -> list[str]:
        """What the browser complains of: failed scripts, refused styles, files that are not there."""
        return [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def window(chromium: Any) -> Iterator[Callable[..., None]]:
    """Sets the browser's width, height and colour scheme."""

    def set_to(width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    set_to()
    yield set_to
    set_to()


@pytest.fixture
def visit(
    chromium: Any, serve: Callable[[Any], str], window: Callable[..., None]
) -> Iterator[Callable[[Any], Page]]:
    """The page of an application's service, not opened yet."""
    chromium.get_log("browser")
    yield lambda app: Page(chromium, serve(app))
    chromium.get("about:blank")  # nothing is asked of a service that is gone


@pytest.fixture
def page(visit: Callable[[Any], Page], rig: Any, maps: Any) -> Page:
    """Of a service without a token, with a base map of the Moon."""
    return visit(rig(token=False, basemaps=maps).client.app)


@pytest.fixture(scope="session")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A base map whose grey says where: darker to the west, in bands by latitude."""
    from PIL import Image

    from crater_ray.config import ServeTable
    from crater_ray.serve.basemap import read_maps

    across, down = np.meshgrid(np.linspace(60, 200, 360), np.arange(180) // 30 % 2 * 30)
    path = tmp_path_factory.mktemp("maps") / "moon.png"
    Image.fromarray((across + down).astype(np.uint8)).save(path)
    return read_maps(ServeTable(basemap={"moon": path}))

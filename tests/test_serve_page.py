"""The server's page in a real browser: a prompt becomes an object before one's eyes, by mouse, keyboard and screen
reader. TEXT23D_SCREENSHOTS names a folder for its screenshots."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from processes import awaited
from programs import found
from served import Served, serving, settings

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.needs("axe-core")]
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--window-size=1000,900", "--hide-scrollbars", "--force-prefers-reduced-motion"),
)
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def served(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    more = ("server.limits.iterations=5000", "server.previews=6", "server.limits.running=1", "server.ready=false")
    with serving(tmp_path_factory.mktemp("served") / "jobs", [*settings(tiny_prior), *more]) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(found("chromium"))
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


@pytest.fixture
def shoot(browser: Any, tmp_path: Path) -> Callable[[str], np.ndarray]:
    """Takes a screenshot, and keeps it. Returns it as [H, W, 3]."""
    folder = Path(os.environ.get("TEXT23D_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(name: str) -> np.ndarray:
        browser.save_screenshot(str(folder / f"{name}.png"))
        return np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))

    return take


def find(browser: Any, selector: str) -> Any:
    """The first that is shown; None: there is none."""
    from selenium.common.exceptions import StaleElementReferenceException

    with suppress(StaleElementReferenceException):  # it was there a moment ago
        return next((each for each in browser.find_elements("css selector", selector) if each.is_displayed()), None)
    return None


def submit(browser: Any, prompt: str, **settings: Any) -> str:
    """Ask for a picture as a person does. Returns its id, from the card that appears."""
    before = {each.get_attribute("data-job") for each in browser.find_elements("css selector", ".card")}
    browser.find_element("css selector", "#prompt").clear()
    for name, value in settings.items():
        browser.execute_script("arguments[0].closest('details').open = true", browser.find_element("id", name))
        browser.find_element("id", name).clear()
        browser.find_element("id", name).send_keys(str(value))
    browser.find_element("id", "prompt").send_keys(prompt + "\n")

    def new() -> str | None:
        cards = browser.find_elements("css selector", ".card")
        return next(
            (each.get_attribute("data-job") for each in cards if each.get_attribute("data-job") not in before), None
        )

    return awaited(new, 20)


def faults(browser: Any) -> list[str]:
    """What axe-core finds that is serious, each with the place."""
    source = Path(str(found("axe-core")), "axe-core", "axe.min.js").read_text()
    browser.execute_script(source)
    told = browser.execute_async_script("axe.run().then(arguments[0])")
    assert len(told["passes"]) > 10, "it looked"
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in told["violations"] if each["impact"] in SERIOUS
    ]


def medium(browser: Any, name: str) -> None:
    browser.find_element("css selector", f"#media input[value={name}]").send_keys(" ")


def shown(browser: Any, job: str) -> str:
    """The address of the picture on a card, once it is loaded."""
    image = browser.find_element("css selector", f"[data-job='{job}'] img")
    loaded = browser.execute_script("return arguments[0].naturalWidth > 0", image)
    return str(image.get_attribute("src")) if loaded and image.is_displayed() else ""


def other(picture: str, than: str) -> str | None:
    """A picture that is another; None: it is the same, or none."""
    return picture if picture not in ("", than) else None


def emulate(browser: Any, width: int, height: int, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_a_person_asks_watches_cancels_and_turns_what_was_made(
    served: Served, browser: Any, shoot: Callable[[str], np.ndarray]
) -> None:
    begin = time.monotonic()
    browser.get(served.url)
    awaited(lambda: find(browser, "#media input, #media label"), 20)
    assert time.monotonic() - begin < 10, "on a machine that does other things, too"
    awaited(lambda: find(browser, "#empty"), 20)
    assert faults(browser) == []
    shoot("1-empty")

    medium(browser, "object")
    made = submit(browser, "a red car", seed=3, iterations=6)
    medium(browser, "image")
    waits = submit(browser, "a green mug", iterations=2)
    assert "number" in browser.find_element("css selector", f"[data-job='{waits}'] .status").text
    first = awaited(lambda: shown(browser, made) or None)
    shoot("2-running")
    browser.find_element("css selector", f"[data-job='{waits}'] .buttons button").click()
    cancelled = f"[data-job='{waits}'][data-state=cancelled]"
    awaited(lambda: find(browser, cancelled), 20)
    browser.find_element("css selector", f"{cancelled} .buttons button:last-child").click()
    awaited(lambda: True if find(browser, f"[data-job='{waits}']") is None else None, 20)
    assert served.ask(f"/api/jobs/{waits}")[0] == 404

    second = awaited(lambda: other(shown(browser, made), first))
    awaited(lambda: find(browser, f"[data-job='{made}'][data-state=done]"), 120)
    awaited(lambda: other(shown(browser, made), second))

    browser.find_element("css selector", f"[data-job='{made}'] .look").click()
    canvas = awaited(lambda: find(browser, "#mesh[data-drawn]"), 30)
    awaited(lambda: "arrow keys" in browser.find_element("id", "hint").text or None)
    assert faults(browser) == []
    straight = seen(browser, canvas, shoot, "3-object")
    assert straight.std(axis=(0, 1)).max() > 15, "something is there"
    assert np.array_equal(straight, seen(browser, canvas, shoot, "3-object")), "and does not move by itself"
    canvas.send_keys("\ue012" * 8)  # the left arrow key
    turned = seen(browser, canvas, shoot, "4-turned")
    assert (np.abs(turned - straight).max(-1) > 3).mean() > 0.02, "another side of it"
    canvas.send_keys("+++")
    assert (np.abs(seen(browser, canvas, shoot, "5-near") - turned).max(-1) > 30).mean() > 0.02, "and from nearer"
    names = [each.get_attribute("href") for each in browser.find_elements("css selector", "#files a")]
    (glb,) = (each for each in names if each.endswith("mesh.glb"))
    assert served.ask(glb.removeprefix(served.url))[1][:4] == b"glTF"
    canvas.send_keys("\ue00c")  # Escape
    awaited(lambda: True if find(browser, "#viewer") is None else None)
    assert browser.switch_to.active_element.get_attribute("class") == "look", "where it was opened"
    errors = [each["message"] for each in browser.get_log("browser") if each["level"] == "SEVERE"]
    assert errors == []


def seen(browser: Any, canvas: Any, shoot: Callable[[str], np.ndarray], name: str) -> np.ndarray:
    """The canvas on the screen, as numbers [H, W, 3], once it is drawn."""
    time.sleep(0.5)
    place = browser.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x, r.y, r.right, r.bottom]", canvas
    )
    left, top, right, bottom = (int(max(0, each)) for each in place)
    return shoot(name)[top + 10 : bottom - 10, left + 10 : right - 10].astype(float)


def test_mistakes_words_and_small_dark_screens(
    served: Served, browser: Any, shoot: Callable[[str], np.ndarray]
) -> None:
    browser.get(served.url)
    awaited(lambda: find(browser, "#examples button"), 20)
    browser.find_element("id", "prompt").send_keys("a red zebra\n")
    awaited(lambda: "zebra" in browser.find_element("id", "problem").text or None, 20)
    field = browser.switch_to.active_element
    assert field.get_attribute("id") == "prompt" and field.get_attribute("aria-invalid") == "true"
    field.clear()
    browser.find_element("css selector", "details summary").click()
    browser.find_element("id", "word-filter").send_keys("lighth")
    awaited(lambda: len(browser.find_elements("css selector", "#words button")) == 1 or None)
    browser.find_element("css selector", "#words button").click()
    assert field.get_attribute("value").startswith("lighthouse")
    for width, height, scheme in ((360, 740, "dark"), (1000, 900, "dark"), (360, 740, "light")):
        emulate(browser, width, height, scheme)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "nothing sticks out"
        picture = shoot(f"6-{width}-{scheme}")
        assert (picture[5:60, 200:300].mean() < 60) == (scheme == "dark")
        assert faults(browser) == []
    browser.get_log("browser")  # of the mistake, of which the browser tells, too

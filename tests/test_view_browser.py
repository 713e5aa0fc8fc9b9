"""The viewer in a real browser: a run is watched, paused, steered and stopped; and a recording is opened."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from processes import awaited, ends
from programs import found
from tiny import NERF, settings

import text23d
from text23d.engine import job, steering
from text23d.engine.commands import Pause, send
from text23d.service.viewer.recording import record
from text23d.service.viewer.source import Source

pytestmark = pytest.mark.needs("chromium")
RUN = (
    *("method.iterations=100000", "method.views=2", "method.inner=2", "method.size.stages=[[0,16]]"),
    *(*NERF, "outputs=minimal", "stages=1", "prior.precision=float32", "checkpoint.every=null", "viewer=on"),
    *("viewer.port=8400", "viewer.every=0.5"),
)
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--window-size=700,480", "--hide-scrollbars"),
)
HIGH, WIDE = 180, 330
"""Pixels from the upper left corner: beyond them are neither notices of viser's nor the panel."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(found("chromium"))
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def run(tiny_prior: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A run of the shell's that would go on for ever, with its viewer, and its folder."""
    folder = tmp_path / "run"
    weights = (f"prior.weights={tiny_prior}", f"stage.weights={tiny_prior.with_name('prior_fine.safetensors')}")
    command = [sys.executable, "-m", "text23d.run", "prompt=a red car", *weights, *RUN, f"hydra.run.dir={folder}"]
    own = {**os.environ, "PYTHONPATH": str(Path(text23d.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=own, stderr=subprocess.PIPE, text=True)
    yield process, folder
    process.kill()
    process.communicate()


def address(folder: Path) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        path = folder / "viewer" / "address.json"
        return dict(json.loads(path.read_text())) if path.exists() else None

    return awaited(look, 120)


def picture(browser: Any) -> np.ndarray:
    """What is seen left of the panel, where no notice of viser's is."""
    shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    return np.asarray(shot)[HIGH:, :WIDE].astype(int)


def shown(browser: Any, before: np.ndarray | None = None) -> np.ndarray:
    """The picture, as soon as there is one, or another than before."""

    def look() -> np.ndarray | None:
        now = picture(browser)
        new = now.std() > 5 if before is None else np.abs(now - before).max() > 8
        return now if new else None

    return awaited(look, 120)


def press(browser: Any, label: str) -> None:
    (button,) = browser.find_elements("xpath", f"//button[normalize-space()='{label}']")
    browser.execute_script("arguments[0].click()", button)


def rest(browser: Any) -> None:
    """Wait as long as a hand does between keyboard and button: viser's page sends one message in 50 ms, the last that
    it has, so that a button which is pressed sooner takes the place of a text."""
    browser.execute_async_script("setTimeout(arguments[0], 500)")


def says(browser: Any, text: str) -> bool:
    return awaited(lambda: text in browser.find_element("tag name", "body").text or None, 120)


def looks(browser: Any, before: Sequence[str] = ()) -> list[str]:
    """The pictures of the last iteration, as soon as all three are there, and others than before."""

    def look() -> list[str] | None:
        found = browser.execute_script("return [...document.images].map(each => each.src)")
        return found[-3:] if len(found) >= 3 and found[-3:] != before else None

    return awaited(look, 120)


def errors(browser: Any) -> list[str]:
    return [each["message"] for each in browser.get_log("browser") if each["level"] == "SEVERE"]


def test_a_run_is_watched_paused_steered_and_stopped(
    browser: Any, run: tuple[subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    process, folder = run
    page = address(folder)
    send(folder, Pause())  # until there is a browser, which wants the processor
    opened = time.monotonic()
    browser.get(page["address"])
    first = shown(browser)
    print(f"the first picture came {time.monotonic() - opened:.1f} s after the page was asked for")
    assert says(browser, "paused, iteration ")
    press(browser, "Resume")
    assert says(browser, "on its way")
    after = looks(browser)
    looks(browser, after)  # as the run goes on
    assert np.abs(picture(browser) - first).max() > 8
    press(browser, "Pause")
    assert says(browser, "paused, iteration ")
    (field,) = browser.find_elements("xpath", "//input[@value='a red car']")
    field.send_keys("\b" * len("red car") + "blue mug")
    rest(browser)
    press(browser, "Apply")
    assert says(browser, "prompt 'a blue mug'")
    assert says(browser, "a blue mug\npaused")
    browser.save_screenshot(str(tmp_path / "viewer.png"))
    press(browser, "Stop")
    assert process.wait(60) == 128 + signal.SIGINT
    assert ends(page["process"]), "the viewer ends with its run"
    told = process.stderr.read() if process.stderr else ""
    assert f"viewer: {page['address']}" in told and "paused after " in told and "Traceback" not in told
    record = steering.read_records(folder / "commands.jsonl")
    assert [each["command"] for each in record] == ["pause", "resume", "pause", "prompt", "stop"]
    assert [each for each in errors(browser) if "WebSocket" not in each and "ERR_CONNECTION" not in each] == []


def test_a_recording_opens_without_a_server(browser: Any, tiny_prior: Path, tmp_path: Path) -> None:
    folder, path = tmp_path / "run", tmp_path / "run.html"
    job.execute(settings(tiny_prior), folder)
    assert record(Source(folder, torch.device("cpu"), print), path, 24, False).startswith(f"{path}: 1 snapshots")
    browser.get("about:blank")
    errors(browser)  # of the page before, whose server is gone
    browser.get(path.as_uri())
    shown(browser)
    assert errors(browser) == []

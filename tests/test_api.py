"""The Python interface: three lines, a notebook, and the denoiser for an outside sampler."""

from __future__ import annotations

import asyncio
import importlib
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import verbs

import text23d
from text23d.artifact.formats import read as read_mesh
from text23d.cameras import orbit
from text23d.engine.events import Exporting, Finished, Iterated, Started
from text23d.errors import UserError
from text23d.prior.builtin import prior as builtin
from text23d.representation.views import FixedCamera

QUICK: dict[str, Any] = {"method.iterations": 2, "method.views": 2, "method.inner": 2, "turntable.frames": 2, "seed": 3}
QUICK |= {"turntable.size": 32, "mesh.faces": 1000, "mesh.resolution": 32, "mesh.colour": "vertices"}
NOTEBOOK = Path(__file__).parent / "quickstart.ipynb"


@pytest.fixture(scope="module")
def made() -> tuple[text23d.Result, list[Any]]:
    events: list[Any] = []
    return text23d.generate("a red car", on_event=events.append, **QUICK), events


def test_a_result_has_what_its_run_left(made: tuple[text23d.Result, list[Any]], tmp_path: Path) -> None:
    result, _ = made
    assert result.summary["prompt"] == "a red car" and result.summary["iterations"] == 2
    assert result.mesh.is_volume and len(result.mesh.faces) == result.summary["mesh"]["faces"]
    assert result.nerf.render_image(orbit(2), 8).shape == (2, 4, 8, 8)
    assert result.save(tmp_path / "car.glb").read_bytes() == (result.folder / "mesh.glb").read_bytes()
    assert result.save(tmp_path / "turn.MP4").read_bytes() == result.turntable().read_bytes()
    assert result.save(tmp_path / "sheet.png").read_bytes() == (result.folder / "contact.png").read_bytes()
    for name in ("my car.obj", "car.ply"):
        assert result.save(tmp_path / name) == tmp_path / name
        assert len(read_mesh(tmp_path / name).faces) == result.summary["mesh"]["faces"]
    assert (tmp_path / "my_car.mtl").is_file()
    page = result._repr_html_()
    assert page.startswith("<figure><img") and "a red car" in page


def test_events_tell_the_whole_run(made: tuple[text23d.Result, list[Any]]) -> None:
    result, events = made
    assert isinstance(events[0], Started) and isinstance(events[-1], Finished)
    assert [each.iteration for each in events if isinstance(each, Iterated)] == [1, 2]
    assert [each.done for each in events if isinstance(each, Exporting)] == [1, 2]
    assert events[-1].summary["nfe"] == result.summary["nfe"]


def test_a_temporary_folder_goes_with_its_result() -> None:
    short: dict[str, Any] = {"method.iterations": 1}
    result = text23d.generate("a red car", outputs="minimal", representation="image", **short)
    folder = result.folder
    assert (folder / "image.safetensors").is_file()
    del result
    assert not folder.exists()


def test_the_same_settings_give_the_bytes_of_the_command_line(tmp_path: Path) -> None:
    own, other = tmp_path / "a folder, with = (all)", tmp_path / "cli"
    short: dict[str, Any] = {"method.views": 2, "method.iterations": 2, "outputs": "minimal", "stages": 1, "seed": 5}
    text23d.generate("a red car", "method=sds", folder=own, **short)
    asked = ["prompt=a red car", "method=sds", "outputs=minimal", "stages=1"]
    asked += ["seed=5", "method.views=2", "method.iterations=2", f"hydra.run.dir={other}"]
    done = verbs.done(*asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (own / "nerf.safetensors").read_bytes() == (other / "nerf.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("prompt", "settings", "said"),
    [
        ("a red car", {"sed": 3}, "no setting named 'sed'"),
        ("a red car", {"method.iterations": 0}, "method.iterations=0: expected a whole number"),
        ("a red car", {"seed": 1.5}, "seed=1.5"),
        ("a red car", {"method": "magic"}, "magic"),
        ("a red spoon", {}, "spoon"),
        ("", {}, "prompt is empty"),
    ],
)
def test_mistakes_are_one_line(prompt: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        text23d.generate(prompt, **settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sed=3", "no setting named 'sed'.*did you mean seed"),
        ("method=sdss", "no method named 'sdss'.*did you mean sds"),
        ("method.views=[", "method.views"),
    ],
)
def test_overrides_that_do_not_serve_are_told_with_the_nearest_that_do(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        text23d.generate("a red car", override)
    assert "\n" not in str(raised.value)


def test_a_result_refuses_what_it_has_not(made: tuple[text23d.Result, list[Any]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in one of \.glb"):
        made[0].save(tmp_path / "car.fbx")


def test_the_denoiser_is_the_priors_own() -> None:
    """Against the built-in prior itself, told the same; and at a large sigma D is near the data's mean, whatever x."""
    D = text23d.load_prior(words="a red car", azimuth=30.0, elevation=20.0)
    x = torch.randn(2, *D.shape, generator=torch.Generator().manual_seed(1))
    prior = builtin.load(None, "cpu", builtin.fast_precision(torch.device("cpu")))
    c = prior.condition(("a", "red", "car"), FixedCamera(azimuth=30.0, elevation=20.0).sample(2))
    assert torch.equal(D(x, 0.7), prior.denoiser(x, torch.tensor(0.7), c))
    far = text23d.load_prior()(40 * x, 40.0)  # the data has a deviation of 0.5
    assert (far[0] - far[1]).abs().mean() < 0.2


def test_an_outside_sampler_draws_a_red_car() -> None:
    """Euler's method on dx / dsigma = (x - D) / sigma, in three lines: what is covered is red."""
    D = text23d.load_prior(words="a red car", azimuth=30.0, guidance=2.0)
    levels = torch.cat([torch.logspace(1.6, -1.7, 12), torch.zeros(1)])
    x = levels[0] * torch.randn(4, *D.shape, generator=torch.Generator().manual_seed(0))
    for sigma, following in pairwise(levels):
        x = x + (following - sigma) * (x - D(x, sigma)) / sigma
    covered = x[:, 3] > 0
    red, green, blue = (x[:, channel][covered].mean().item() for channel in range(3))
    assert 0.05 < covered.float().mean() < 0.8
    assert red > green + 0.2 and red > blue + 0.2


def test_the_notebook_runs(tmp_path: Path) -> None:
    nbformat, nbclient = importlib.import_module("nbformat"), importlib.import_module("nbclient")
    if sys.platform == "win32":
        asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())  # type: ignore[attr-defined]
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for output in cells[0].outputs if output.output_type == "execute_result"]
    assert "data:image/png;base64," in outputs[0]["data"]["text/html"]
    assert (tmp_path / "car.glb").stat().st_size > 10_000
    assert "True" in cells[-1].outputs[0]["data"]["text/plain"]
    assert np.frombuffer((tmp_path / "car.glb").read_bytes()[:4], np.uint8).tobytes() == b"glTF"

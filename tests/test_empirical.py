"""A folder of pictures as a prior: read exactly, denoised exactly, and its mistakes told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from text23d.compose import compose
from text23d.engine.build import build_run
from text23d.engine.loop import advance
from text23d.errors import UserError
from text23d.guide import Request
from text23d.prior.empirical import guide, read_folder
from text23d.spaces import from_picture
from text23d.worlds.objects.world import Objects

CPU = torch.device("cpu")
ANYTHING = Request("whatever", Objects(), (), CPU)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two RGBA pictures and an RGB one, of 16 x 16 levels drawn at random."""
    rng = np.random.default_rng(0)
    for name, channels in (("a.png", 4), ("b.png", 4), ("c.png", 3)):
        Image.fromarray(rng.integers(0, 256, (16, 16, channels), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_pictures_are_read_as_they_are(folder: Path) -> None:
    points = read_folder(str(folder))
    assert points.shape == (3, 4, 16, 16)
    premultiplied, alpha = from_picture(points)
    level = np.asarray(Image.open(folder / "b.png"))[3, 5] / 255
    assert alpha[1, 0, 3, 5].item() == pytest.approx(level[3], abs=1e-6)
    assert premultiplied[1, :, 3, 5].tolist() == pytest.approx((level[:3] * level[3]).tolist(), abs=1e-6)
    assert bool((alpha[2] == 1).all()), "RGB covers everything"


def test_the_denoiser_is_exact_and_told_nothing(folder: Path) -> None:
    made = guide(ANYTHING, str(folder))
    points, sigma = read_folder(str(folder)).double(), 8.0
    x = points[:1] + sigma * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = [math.exp(-(x - p).square().sum().item() / (2 * sigma**2) + 400) for p in points]
    expected = sum(w * p for w, p in zip(weight, points, strict=True)) / sum(weight)
    torch.testing.assert_close(made.main(x, torch.tensor(sigma))[0], expected, rtol=1e-6, atol=1e-6)
    assert 0.02 < max(weight) / sum(weight) < 0.98, "no one-sided mixture"
    assert made.aux is made.main and made.shape == (16, 16)
    assert made.conditioned_on(None).c is made.conditioned_on(None).c_aux is None
    assert not made.captions and made.latents is None and made.reference_rms is None


def test_an_image_becomes_one_of_the_folder(folder: Path) -> None:
    """Algorithm 1 with direct replacement and warm starts, by its configuration: at a low level it has chosen. (Without
    the leak it would keep whatever lies between the pictures: x0_hat - D'(x') = x0 - D'(x).)"""
    usual = [
        "prompt=one of them", "prior=empirical", "representation=image", "representation.size=16", "views=bank",
        "views.count=1", "method/optimizer=replace", "method.views=1", "method.iterations=40", "method.leak=1",
        "method.sigma.start=20", "method.sigma.end=0.1",
    ]  # fmt: skip
    points, ends = read_folder(str(folder)), []
    for seed in range(4):
        cfg = compose("config", usual, seed=seed, **{"prior.folder": str(folder)})
        state, parts = build_run(cfg, CPU)
        for _ in range(40):
            figures = advance(state, parts)
        assert figures["nfe"] == 4  # two steps of the inversion and its start, and D'(x'): D is D'
        found = state.phi.get_parameter("pixels").detach()
        distance = (found - points).flatten(1).norm(dim=1)
        assert distance.min() < 0.2 * (points[0] - points[1]).norm()
        ends.append(int(distance.argmin()))
    assert len(set(ends)) > 1, "another seed, another picture"


def test_mistakes_are_told_in_one_line(folder: Path) -> None:
    def told(where: str | None) -> str:
        with pytest.raises(UserError) as raised:
            guide(ANYTHING, where)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "prior.folder=null: no such folder" in told(None)
    assert "no such folder" in told(str(folder / "missing"))
    (folder / "empty").mkdir()
    assert "no picture there" in told(str(folder / "empty"))
    Image.new("RGB", (24, 24)).save(folder / "d.jpg")
    assert "d.jpg is 24 pixels wide and a.png is 16; expected one size" in told(str(folder))
    (folder / "d.jpg").write_bytes((folder / "a.png").read_bytes()[:200])
    assert "d.jpg: cannot be read as a picture" in told(str(folder))

"""Panoramas by a pretrained prior of latents: windows are decoded into their place, and what is known stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pipelines
import pytest
import torch
from tiny import optimise
from torch import Tensor

from text23d.compose import compose
from text23d.engine.build import build_run, coarser
from text23d.errors import UserError
from text23d.method.constraints import Inpaint
from text23d.pictures import read_picture, write_picture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.save("sd", tmp_path_factory.mktemp("hub") / "sd")


def run(model: Path, *overrides: str) -> Any:
    cfg = compose(
        "config",
        ["prompt=a valley", "representation=panorama", "prior=hub", f"prior.path='{model}'", "views.window=[16,16]",
         "representation.height=16", "representation.width=40", "views.shared=false", "method.iterations=2",
         "method.views=4", *overrides],
    )  # fmt: skip
    return build_run(cfg, CPU)


def test_a_panorama_goes_on_from_a_picture(model: Path, tmp_path: Path) -> None:
    """The known pixels are exactly so after each iteration; the others are what the autoencoder decodes."""
    levels = torch.rand(3, 16, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_picture(tmp_path / "left.png", torch.cat([levels, torch.ones(1, 16, 12)]))
    known = read_picture(tmp_path / "left.png", "x", square=False)[:3]
    state, parts = run(model, "constraint=outpaint", f"constraint.picture='{tmp_path}/left.png'", "constraint.at=0.0")
    before = state.phi.values.detach().clone()
    for _ in optimise(state, parts):
        pass
    values = state.phi.values.detach()
    assert values.isfinite().all() and (values[..., 16:] != before[..., 16:]).any()
    seen = (values[..., :12] - known).abs().amax((0, 1)) < 1e-6
    assert seen.any(), "some window has seen the beginning"
    untouched = (values == before).all(1).all(0)[:12]
    assert (seen | untouched).all(), "and none has left anything else there"


def test_windows_of_decoded_targets_replace_the_canvas(model: Path) -> None:
    """One window, one target: the canvas is what the autoencoder makes of it."""
    state, parts = run(model)
    views = parts.views.sample(1, torch.Generator().manual_seed(0))
    code = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)) / 2
    updater = parts.updater(state, views, 0.0, lambda purpose: torch.Generator())
    updater(parts.guide.wrap(state.phi), views, code, (8, 8))
    expected = parts.guide.latents.decode(code)
    torch.testing.assert_close(state.phi.render(views, (16, 16)), expected)


def test_codes_are_kept_as_far_as_their_pixels_are() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :3] = 1

    def keep(views: Any, shape: Any) -> Tensor:
        assert shape == (8, 8)
        return mask

    inside: Any = coarser(Inpaint(None, keep), 2)  # type: ignore[arg-type]
    assert inside.keep(None, (4, 4))[0, 0, 0].tolist() == [1, 0.5, 0, 0]


def test_windows_of_latents_share_no_noise(model: Path) -> None:
    with pytest.raises(UserError, match=r"views\.shared=true: a prior of latents"):
        run(model, "views.shared=true")


def test_an_object_has_no_pixels_to_replace(model: Path) -> None:
    with pytest.raises(UserError, match="method/optimizer=replace: expected a representation that has pixels"):
        build_run(
            compose("config", ["prompt=a corgi", "prior=hub", f"prior.path='{model}'", "method/optimizer=replace"]), CPU
        )

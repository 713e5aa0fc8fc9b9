"""Prompts of the sides of an object, between them, and a picture beside them: told to a tiny pretrained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pipelines
import pytest
import torch
from torch import Tensor

from text23d.cameras import SIDES, Cameras, orbit
from text23d.compose import compose
from text23d.errors import UserError
from text23d.guide import Guide, Request, cost
from text23d.pictures import write_picture
from text23d.prior.hub.guide import guide
from text23d.prior.hub.views import Sides, ViewPrompts
from text23d.prior.wrappers.rule import Rule
from text23d.settings import read
from text23d.worlds.objects.world import Objects

CPU = torch.device("cpu")
PROMPT = "a corgi"
X = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor([0.3, 1.0, 3.0])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.save("sd", tmp_path_factory.mktemp("hub") / "sd")


def asked(words: Any = SIDES) -> Request:
    return Request(PROMPT, Objects(), words, CPU)


def made(folder: Path, words: Any = SIDES, **settings: Any) -> Guide:
    return guide(asked(words), str(folder), **settings)


def seen(*azimuths: float, elevation: float = 0.0) -> Cameras:
    columns = (torch.tensor(azimuths), *(torch.full((len(azimuths),), each) for each in (elevation, 3.0, 40.0)))
    return Cameras(*columns)


# The sides


def test_a_prompt_of_each_side(tiny: Path) -> None:
    """As the pipeline encodes it; the configuration has the same words, and each can be another."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny, local_files_only=True)
    views = Cameras.cat([seen(0.0, 90.0, 180.0), seen(0.0, elevation=80.0)])
    c, _ = made(tiny, view_prompts=ViewPrompts(back="the tail of {prompt}, a dog")).conditions(views)
    texts = [
        f"{PROMPT}, front view",
        f"{PROMPT}, side view",
        f"the tail of {PROMPT}, a dog",
        f"{PROMPT}, overhead view",
    ]
    expected, _ = pipeline.encode_prompt(texts, CPU, 1, False)
    torch.testing.assert_close(c.said["text"], expected, rtol=1e-4, atol=1e-5)
    node = compose("config", [f"prompt='{PROMPT}'", "prior=hub", "prior.view_prompts.side='{prompt} from the side'"])
    assert read(ViewPrompts, node["prior"]["view_prompts"]) == ViewPrompts(side="{prompt} from the side")
    plain, _ = made(tiny, view_dependent=False).conditions(views)
    torch.testing.assert_close(plain.said["text"], plain.said["text"][:1].expand_as(plain.said["text"]))
    assert ViewPrompts().said(PROMPT, "") == PROMPT and ViewPrompts().said(PROMPT, "close") == f"{PROMPT}, close"


def test_shares_of_the_sides_in_closed_form() -> None:
    """Half way between two sides each has half; a view of a side is not led away from itself; and weights pass over
    from one half to the other."""
    sides = Sides.of(seen(0.0, 45.0, -45.0, 90.0, 135.0, 180.0, 270.0))
    halves = [
        [1, 0, 0, 0],
        [0.5, 0.5, 0, 0],
        [0.5, 0.5, 0, 0],
        [0, 1, 0, 0],
        [0, 0.5, 0.5, 0],
        [0, 0, 1, 0],
        [0, 1, 0, 0],
    ]
    torch.testing.assert_close(sides.share, torch.tensor(halves))
    e = torch.e
    away = 4 - 4 * e**-0.5  # 1.574: of the front where the side is seen, and of the side where the front is
    middle = 4 * e**-0.25 - 4 * e**-0.5
    expected = [
        [0, away], [middle, middle], [middle, middle], [e**-0.5 + 0.967, 0],
        [e**-0.25 + 0.967, e**-0.25 - e**-0.5], [1.967, 1 - e**-0.5], [e**-0.5 + 0.967, 0],
    ]  # fmt: skip
    torch.testing.assert_close(sides.against[:, :2], torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert not sides.against[:, 2:].any()
    near = Sides.of(seen(89.99, 90.01)).against
    torch.testing.assert_close(near[0], near[1], rtol=0, atol=2e-3)
    above = Sides.of(seen(30.0, elevation=70.0))
    assert above.share.tolist() == [[0, 0, 0, 1]] and not above.against.any()


def test_views_between_sides_are_led_away_from_the_others(tiny: Path) -> None:
    """Perp-Neg with the prompts of front and side, from the mean of the two nearest sides' states."""
    views = seen(30.0, 100.0, 180.0)
    found = made(tiny, guidance=5.0, between_views=True)
    c, c_aux = found.conditions(views)
    assert c is c_aux and cost(found.main) == 4
    plain = made(tiny, guidance=5.0)
    states = {
        name: plain.conditions(seen(azimuth))[0] for name, azimuth in zip(SIDES, (0.0, 90.0, 180.0), strict=False)
    }
    front, side, back = (states[name].said["text"][0] for name in SIDES[:3])
    text = torch.stack([2 / 3 * front + 1 / 3 * side, 8 / 9 * side + 1 / 9 * back, back])
    torch.testing.assert_close(c.said["text"], text, rtol=1e-4, atol=1e-5)

    def D(text: Tensor) -> Tensor:
        told = plain.conditions(views)[0]
        return plain.aux(X, SIGMA, type(told)({**told.said, "text": text.expand_as(told.said["text"])}, told.empty))

    with torch.no_grad():
        nothing, told, answer = D(plain.conditions(views)[0].empty["text"]), D(text), found.main(X, SIGMA, c)
        weights, e = Sides.of(views).against, told - nothing
        expected = nothing + 5 * e
        for which, prompt in ((0, front), (1, side)):
            n = D(prompt) - nothing
            along = (n * e).sum((1, 2, 3), keepdim=True) / (e * e).sum((1, 2, 3), keepdim=True)
            expected = expected - 5 * weights[:, which].reshape(-1, 1, 1, 1) * (n - along * e)
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"prior\.between_views=true: expected an object"):
        made(tiny, ("",), between_views=True)


@pytest.mark.parametrize("name", ["sdxl", "sd3", "pixart"])
def test_other_families_between_sides(name: str, tmp_path: Path) -> None:
    """Pooled texts and masks, too."""
    found = made(pipelines.save(name, tmp_path / name), between_views=True, rule=Rule(rescale=0.5))
    with torch.no_grad():
        told = found.conditioned_on(seen(30.0, 100.0, 180.0))
        x = torch.randn(3, 4, *found.shape, generator=torch.Generator().manual_seed(0))
        assert told.D(x, SIGMA).isfinite().all()


# A picture


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    return pipelines.save_adapter(tiny, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    levels = torch.rand(3, 40, 30, generator=torch.Generator().manual_seed(7)) * 2 - 1
    write_picture(path, torch.cat([levels, torch.ones(1, 40, 30)]))
    return path


def test_a_picture_is_told_as_the_pipeline_tells_it(tiny: Path, adapter: Path, photo: Path) -> None:
    """Our guided D, in the loop of DDIM, against the pipeline's own latents."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionPipeline
    from PIL import Image

    pipeline = StableDiffusionPipeline.from_pretrained(tiny, local_files_only=True)
    pipeline.load_ip_adapter(str(adapter), subfolder="", weight_name="ip-adapter.safetensors", local_files_only=True)
    pipeline.set_ip_adapter_scale(0.6)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    arguments = {"guidance_scale": 4.0, "num_inference_steps": 4, "latents": start, "output_type": "latent"}
    with Image.open(photo) as opened:
        theirs = pipeline(f"{PROMPT}, front view", ip_adapter_image=opened.convert("RGB"), **arguments).images
    found = made(tiny, guidance=4.0, image=str(photo), ip_adapter=str(adapter), image_scale=0.6)
    found = found.conditioned_on(seen(0.0))
    pipeline.scheduler.set_timesteps(4)
    latents = start
    for t in pipeline.scheduler.timesteps:
        abar = pipeline.scheduler.alphas_cumprod[t]
        sigma = ((1 - abar) / abar).sqrt()
        with torch.no_grad():
            x0 = found.D(0.5 * latents / abar.sqrt(), (0.5 * sigma)[None]) / 0.5
        noise = (latents - abar.sqrt() * x0) / (1 - abar).sqrt()
        latents = pipeline.scheduler.step(noise, t, latents).prev_sample
    assert (latents - theirs).norm() < 1e-4 * theirs.norm()
    unseen = made(tiny, guidance=4.0).conditioned_on(seen(0.0))
    with torch.no_grad():
        assert (unseen.D(X[:1], SIGMA[:1]) - found.D(X[:1], SIGMA[:1])).abs().max() > 1e-3


def test_pictures_that_cannot_be_told(tiny: Path, adapter: Path, photo: Path, tmp_path: Path) -> None:
    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(UserError, match=message):
            made(tiny, **settings)

    refused(r"add prior\.ip_adapter=", image=str(photo))
    refused(r"add prior\.image=", ip_adapter=str(adapter))
    refused(r"expected a \.safetensors file, or a folder with one", image=str(photo), ip_adapter=str(tmp_path))
    weights = adapter / "ip-adapter.safetensors"
    lonely = tmp_path / "alone.safetensors"
    lonely.write_bytes(weights.read_bytes())
    refused(r"there is no image_encoder/config\.json beside it", image=str(photo), ip_adapter=str(lonely))
    refused(r"prior\.image=.*: no such file", image=str(tmp_path / "x.png"), ip_adapter=str(weights))
    (tmp_path / "image_encoder").symlink_to(adapter / "image_encoder")
    lonely.write_bytes(weights.read_bytes()[:100])
    refused("it is not for this model", image=str(photo), ip_adapter=str(lonely))
    with pytest.raises(UserError, match="SD3Transformer2DModel of this model takes none here"):
        made(pipelines.save("sd3", tmp_path / "sd3"), image=str(photo), ip_adapter=str(weights))


def test_an_orbit_with_a_picture_is_one_condition(tiny: Path, adapter: Path, photo: Path) -> None:
    found = made(tiny, image=str(photo), ip_adapter=str(adapter), auxiliary="none")
    c, c_aux = found.conditions(orbit(3))
    assert c.said["image"].shape[0] == 3 and not c_aux.said["image"].any(), "D' is told nothing of the picture"

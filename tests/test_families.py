"""Pretrained models of every family: D, in the family's own sampler, makes what its pipeline makes."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image
from tiny import NERF
from torch import Tensor

from text23d.cameras import SIDES, Cameras
from text23d.compose import compose
from text23d.engine.build import build_run
from text23d.engine.events import Noted
from text23d.engine.job import execute
from text23d.engine.recipe import Recipe
from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.prior.hub.guide import guide
from text23d.prior.hub.locate import REPOSITORY
from text23d.settings import build, parameters_of

CPU = torch.device("cpu")
PROMPT = "a corgi in a hat"
STEPS = 5
ALMOST = 1e9
"""A noise level at which nothing is left of the signal, to rounding."""

Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The tiny pipeline of a name, made once."""
    root = tmp_path_factory.mktemp("hub")
    return lambda name: root / name if (root / name).exists() else pipelines.save(name, root)


def front() -> Cameras:
    return Cameras(*(torch.tensor([value]) for value in (0.0, 10.0, 3.0, 40.0)))


def guide_of(path: Path, **settings: Any) -> Guide:
    return guide(Request(PROMPT, None, SIDES, CPU), str(path), **{"view_dependent": False, **settings})


def pipeline_of(path: Path) -> Any:
    """As diffusers itself loads it."""
    from diffusers import DiffusionPipeline

    index = json.loads((path / "model_index.json").read_text())
    absent = {name: None for name, value in index.items() if value == [None, None]}
    pipeline = DiffusionPipeline.from_pretrained(path, local_files_only=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(channels: int = 4) -> Tensor:
    return torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(7))


def denoise(guide: Guide, n: Tensor, levels: list[float]) -> Tensor:
    """x at the last of these levels, in the guide's units, from x = levels[0] n: the sampler of DDIM, and of Euler in a
    flow, x' = D(x) + (sigma' / sigma) (x - D(x))."""
    c, _ = guide.conditions(front())
    x = levels[0] * n
    for sigma, lower in pairwise(levels):
        with torch.no_grad():
            x = guide.main(x, torch.tensor(sigma), c).lerp(x, lower / sigma)
    return x


def ddim(guide: Guide, scheduler: Any, n: Tensor, unit: float = 0.5) -> Tensor:
    """What DDIM's steps (Song et al. 2021, eta = 0) make of n, in the units of the pipeline."""
    scheduler.set_timesteps(STEPS)
    leap = scheduler.config.num_train_timesteps // STEPS
    steps = [*scheduler.timesteps.tolist(), scheduler.timesteps.tolist()[-1] - leap]
    abar = [float(scheduler.alphas_cumprod[t] if t >= 0 else scheduler.final_alpha_cumprod) for t in steps]
    sigmas = [((1 - share) / share) ** 0.5 if share else ALMOST for share in abar]
    x = n / (abar[0] ** 0.5 or 1 / ALMOST) * unit / (unit * sigmas[0])  # the pipeline begins with x_vp = n
    return denoise(guide, x, [unit * sigma for sigma in sigmas]) / unit * abar[-1] ** 0.5


def euler(guide: Guide, scheduler: Any, n: Tensor, unit: float = 0.5) -> Tensor:
    """What Euler's steps along a flow make of n; they end at level 0."""
    times = scheduler.sigmas.tolist()
    assert times[0] == 1 and times[-1] == 0
    return denoise(guide, n, [unit * (t / (1 - t) if t < 1 else ALMOST) for t in times]) / unit


def close(found: Tensor, expected: Tensor) -> None:
    """To 1e-5 of the deviation, and not by chance."""
    assert expected.std() > 0.05
    assert (found - expected).square().mean().sqrt() <= 1e-5 * expected.square().mean().sqrt()


@pytest.mark.parametrize("negative", [None, "blurry, deformed"])
@pytest.mark.parametrize("name", ["sd", "sd21", "sdxl", "pixart"])
def test_steps_of_ddim_make_what_the_pipeline_makes(folder: Folder, name: str, negative: str | None) -> None:
    pipeline, n = pipeline_of(folder(name)), noise()
    more: dict[str, Any] = {"use_resolution_binning": False} if name == "pixart" else {}
    told = negative if negative or name != "pixart" else ""
    expected = pipeline(
        PROMPT, negative_prompt=told, guidance_scale=3.0, num_inference_steps=STEPS, latents=n, output_type="latent",
        **more,
    ).images  # fmt: skip
    found = ddim(guide_of(folder(name), guidance=3.0, negative=negative), pipeline.scheduler, n)
    close(found, expected)
    other = ddim(guide_of(folder(name), guidance=2.0, negative=negative), pipeline.scheduler, n)
    assert (other - expected).std() > 1e-3 * expected.std(), "or the prompt does not matter"


@pytest.mark.parametrize("name", ["sd3", "sd3_without_t5"])
def test_steps_of_a_flow_make_what_stable_diffusion_3_makes(folder: Folder, name: str) -> None:
    pipeline, n = pipeline_of(folder(name)), noise()
    expected = pipeline(
        PROMPT, guidance_scale=3.0, num_inference_steps=STEPS, latents=n, output_type="latent", height=16, width=16
    ).images
    close(euler(guide_of(folder(name), guidance=3.0), pipeline.scheduler, n), expected)


@pytest.mark.parametrize(("name", "embedded"), [("flux", 3.5), ("flux_schnell", None)])
def test_steps_of_a_flow_make_what_flux_makes(folder: Folder, name: str, embedded: float | None) -> None:
    pipeline, n = pipeline_of(folder(name)), noise()
    packed = pipeline._pack_latents(n, 1, 4, 8, 8)
    for scale in (1.0, 3.0):
        expected = pipeline(
            PROMPT, negative_prompt="", true_cfg_scale=scale, guidance_scale=embedded or 0.0, latents=packed,
            num_inference_steps=STEPS, output_type="latent", height=16, width=16,
        ).images  # fmt: skip
        made = guide_of(folder(name), guidance=scale, embedded=embedded, resolution=16)
        assert made.shape == (8, 8)
        close(euler(made, pipeline.scheduler, n), pipeline._unpack_latents(expected, 16, 16, 2))
        c, c_aux = made.conditions(front())
        assert (c is c_aux) == (embedded is None)
        if embedded is not None:
            assert (c.said["scale"].item(), c_aux.said["scale"].item()) == (3.5, 1.0)


def test_ancestral_steps_make_what_deepfloyd_if_makes(folder: Folder) -> None:
    """DDPM's steps (Ho et al. 2020, Eq. 7) with dynamic thresholding, and with the variance that the network has beside
    the noise, which D leaves out."""
    pipeline = pipeline_of(folder("deepfloyd_if"))
    draw = torch.Generator().manual_seed(3)
    expected = pipeline(
        PROMPT.title(), guidance_scale=3.0, num_inference_steps=STEPS, generator=draw, output_type="pt"
    ).images
    made, scheduler = guide_of(folder("deepfloyd_if"), guidance=3.0), pipeline.scheduler
    c, _ = made.conditions(front())
    draw.manual_seed(3)
    x = torch.randn(1, 3, 8, 8, generator=draw)
    for t in scheduler.timesteps:
        before = scheduler.previous_timestep(t)
        abar, lower = (
            scheduler.alphas_cumprod[t],
            scheduler.alphas_cumprod[before] if before >= 0 else torch.tensor(1.0),
        )
        alpha = abar / lower
        with torch.no_grad():
            x0 = scheduler._threshold_sample(made.main(x / abar.sqrt(), ((1 - abar) / abar).sqrt(), c))
            _, told = pipeline.unet(x, t, c.said["text"]).sample.chunk(2, dim=1)
        mean = (lower.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - lower) * x) / (1 - abar)
        spread = 0.5 * scheduler._get_variance(t, predicted_variance=told)
        x = mean + spread.exp() * torch.randn(1, 3, 8, 8, generator=draw) if t > 0 else mean
    close(x, expected)


def test_steps_of_a_consistency_model(folder: Folder) -> None:
    """x' = D(x) + sigma' n' (Luo et al. 2023, Algorithm 1 of multistep sampling); the last D(x) is the result."""
    pipeline, n = pipeline_of(folder("lcm")), noise()
    draw = torch.Generator().manual_seed(3)
    expected = pipeline(
        PROMPT, guidance_scale=8.5, num_inference_steps=STEPS, latents=n, generator=draw, output_type="latent"
    ).images
    made = guide_of(folder("lcm"), guidance=1, embedded=8.5)
    c, c_aux = made.conditions(front())
    assert c_aux.said["scale"].item() == 1
    draw.manual_seed(3)
    abar = [pipeline.scheduler.alphas_cumprod[t] for t in pipeline.scheduler.timesteps]
    x = n / abar[0].sqrt() / 2
    for level, lower in pairwise([*abar, None]):
        with torch.no_grad():
            x0 = made.main(x, ((1 - level) / level).sqrt() / 2, c)
        if lower is not None:
            x = x0 + ((1 - lower) / lower).sqrt() / 2 * torch.randn(n.shape, generator=draw)
    close(2 * x0, expected)


@pytest.mark.parametrize("name", ["inpainting", "sdxl_inpainting"])
def test_an_inpainting_model_completes_what_it_is_given(folder: Folder, name: str) -> None:
    pipeline, n = pipeline_of(folder(name)), noise()
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:] = 1
    made = guide_of(folder(name), guidance=3.0)
    grey = made.conditions(front())[0].said["known"][:, 1:]
    for known in (0.3 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(9)), grey):
        if known is grey:
            mask = torch.ones_like(mask)
        expected = pipeline(
            PROMPT, image=torch.zeros(1, 3, 16, 16), mask_image=mask.repeat_interleave(2, -1).repeat_interleave(2, -2),
            masked_image_latents=known, latents=n, guidance_scale=3.0, num_inference_steps=STEPS, output_type="latent",
            height=16, width=16, strength=1.0,
        ).images  # fmt: skip

        def conditions(views: Any, of: Any = made.conditions, known: Tensor = known, mask: Tensor = mask) -> Any:
            c, _ = of(views)
            c = replace(c, said={**c.said, "known": torch.cat([mask, known], dim=1)})
            return c, c

        given = made if known is grey else replace(made, conditions=conditions)
        close(ddim(given, pipeline.scheduler, n), expected)


def test_what_a_constraint_knows_is_told_to_an_inpainting_model(folder: Folder, tmp_path: Path) -> None:
    """A run that is given half a picture: the mask, and the latents of the picture with grey in place of the rest."""
    rgb = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    mask[:, :8] = 255
    for name, pixels in (("picture", rgb), ("mask", mask)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    settings = [f"prior.path={folder('inpainting')}", "representation=image", "representation.size=16", "device=cpu"]
    known = [f"constraint.{name}={tmp_path / name}.png" for name in ("picture", "mask")]
    cfg = compose(
        "config", [f"prompt={PROMPT}", "prior=hub", "constraint=inpaint", "method.views=1", *settings, *known]
    )
    _, parts = build_run(cfg, CPU)
    c, c_aux = parts.guide.conditions(parts.views.sample(1))
    told = c.said["known"]
    half = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 127.5 - 1
    half[..., 8:] = 0
    vae = pipeline_of(folder("inpainting")).vae
    with torch.no_grad():
        latents = vae.encode(half).latent_dist.mean * vae.config.scaling_factor
    assert c is c_aux and told[0, 0].unique().tolist() == [0, 1]
    assert torch.equal(told[0, 0], torch.tensor([0.0] * 4 + [1.0] * 4).expand(8, 8))
    torch.testing.assert_close(told[:, 1:], latents, rtol=1e-4, atol=1e-5)


def test_a_distilled_model_may_be_the_auxiliary_prior(folder: Folder) -> None:
    made = guide_of(folder("sd"), guidance=3.0, auxiliary_path=str(folder("lcm")))
    alone = guide_of(folder("lcm"), guidance=1)
    c, c_aux = made.conditions(front())
    x, sigma = noise(), torch.tensor(1.5)
    with torch.no_grad():
        found = made.aux(x, sigma, c_aux)
        torch.testing.assert_close(found, alone.main(x, sigma, alone.conditions(front())[0]))
        assert (made.main(x, sigma, c) - found).abs().max() > 1e-3
    assert not made.shared
    with pytest.raises(UserError, match=r"prior\.auxiliary_path: .*sdxl has other latents than D"):
        guide_of(folder("sd"), auxiliary_path=str(folder("sdxl")))


def test_an_old_file_of_the_same_latents(folder: Folder, tmp_path: Path) -> None:
    """As that of Stable Diffusion 1.5, whose autoencoder leaves out what is diffusers' own."""
    old = Path(shutil.copytree(folder("sd"), tmp_path / "old"))
    settings = json.loads((old / "vae" / "config.json").read_text())
    kept = {name: each for name, each in settings.items() if name not in ("scaling_factor", "shift_factor")}
    (old / "vae" / "config.json").write_text(json.dumps(kept))
    made = guide_of(folder("lcm"), auxiliary_path=str(old))
    assert made.main is not made.aux


def test_prompts_are_encoded_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import CLIPTextModel

    asked: list[int] = []
    forward = CLIPTextModel.forward

    def counted(self: Any, ids: Any, **settings: Any) -> Any:
        asked.append(len(ids))
        return forward(self, ids, **settings)

    monkeypatch.setattr(CLIPTextModel, "forward", counted)
    made = guide_of(folder("sd"), guidance=3.0, negative="blurry", view_dependent=True)
    for _ in range(3):
        c, _ = made.conditions(front())
        with torch.no_grad():
            made.main(noise(), torch.tensor(1.0), c)
    assert asked == [2 + 1 + len(SIDES)], (
        "the empty prompt, the negative one, and the prompt without and with each side"
    )


JOB = (
    *("prompt=a corgi in a hat", "method.iterations=2", "method.views=2", "stages=1", "device=cpu", "outputs=minimal"),
    *("method.size.stages=[[0.0,8]]", "mesh.resolution=16", "turntable.frames=2", "turntable.size=16", *NERF),
)
PRESETS = {
    "sd": "sd15",
    "sd21": "sd21",
    "inpainting": "hub",
    "sdxl": "sdxl",
    "deepfloyd_if": "deepfloyd_if",
    "sd3": "sd3",
    "flux": "flux",
    "pixart": "hub",
}
"""Tiny pipeline -> the preset of those like it."""
PIPELINES_OF = {
    "sd": "StableDiffusionPipeline",
    "sd21": "StableDiffusionPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "deepfloyd_if": "IFPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
    "pixart": "PixArtSigmaPipeline",
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_main_job_runs_with_every_family(folder: Folder, tmp_path: Path, name: str) -> None:
    preset = PRESETS[name]
    pixels = {"deepfloyd_if": 8}.get(name, 16)
    cfg = compose("config", [*JOB, f"prior={preset}", f"prior.path={folder(name)}", f"prior.resolution={pixels}"])
    told: list[Any] = []
    summary = execute(cfg, tmp_path, told.append)
    assert summary["iterations"] == 2 and summary["nfe"] > 0 and not summary["troubles"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all(0 < line["loss"] < math.inf for line in lines)
    # Random networks ask for anything at the highest levels, where the loss may rise: but phi follows them.
    assert all(0 < line["loss_after"] < math.inf and line["loss_after"] != line["loss"] for line in lines)
    model = json.loads((tmp_path / "summary.json").read_text())["model"]
    assert model["name"] == name and model["pipeline"] == PIPELINES_OF[name]
    licence = cfg["prior"]["licence"] or "unknown: see the model's card"
    assert model["licence"] == licence
    said = [each.text for each in told if isinstance(each, Noted)]
    assert any(f"licence {licence}" in each for each in said)
    assert any(re.match(r"memory: the run needs about \d+\.\d GiB more; \d+\.\d GiB are free", each) for each in said)


def test_the_main_job_adapts_a_pretrained_network(folder: Folder, tmp_path: Path) -> None:
    settings = ["method=vsd", "prior=sd15", f"prior.path={folder('sd')}", "prior.resolution=16"]
    summary = execute(compose("config", [*JOB, *settings]), tmp_path)
    assert summary["iterations"] == 2 and summary["nfe"] == 2 * 5 and not summary["troubles"]


@pytest.mark.parametrize("preset", sorted({"hub", "mvdream", *PRESETS.values()}))
def test_presets_hold_together(preset: str) -> None:
    """Every key of a preset is one that the prior takes, repositories are named as a hub names them, and a schedule of
    noise levels stays within those that the family knows."""
    cfg = compose("config", ["prompt=a corgi in a hat", f"prior={preset}"])
    prior = {name: value for name, value in cfg["prior"].items() if name != "_target_"}
    assert set(prior) == set(parameters_of(guide)) - {"return", "request"}
    assert not cfg["stage"]
    if preset == "hub":
        return
    assert prior["licence"] and prior["mirrors"] and all(re.fullmatch(REPOSITORY, each) for each in prior["mirrors"])
    recipe = build(cfg["method"], "method", Recipe)
    assert recipe.iterations == 500
    first, last = TIMESTEPS[preset]
    assert recipe.sigma(0.0) == pytest.approx(first, rel=0.03) and recipe.sigma(1.0) == pytest.approx(last, rel=0.03)


SEEN = {"sd15": 64, "sd21": 64, "sdxl": 128, "deepfloyd_if": 64, "sd3": 64, "flux": 64, "mvdream": 32}
"""The side of what each preset's network sees: pixels of IF, and an eighth of them of the others."""


@pytest.mark.parametrize("preset", SEEN)
def test_a_preset_goes_with_methods_and_media(preset: str) -> None:
    """Its resolution and its update's rendering are said, and that is no finer than what is seen."""
    for choice in (
        "method=langevin",
        "method=windows",
        "method=vsd",
        "representation=image",
        "representation=panorama",
    ):
        cfg = compose("config", ["prompt=a corgi", f"prior={preset}", choice])
        size = build(cfg["method"], "method", Recipe).size
        assert cfg["prior"]["resolution"] == SEEN[preset] * (1 if preset == "deepfloyd_if" else 8)
        if size is not None and not (preset == "mvdream" and "image" in choice):  # which is for objects alone
            assert size(1.0) <= SEEN[preset]


def test_the_rendering_is_no_finer_than_latents_are(folder: Folder) -> None:
    settings = ["prompt=a corgi", "prior=hub", "method.views=2", "method.size.stages=[[0.0,4],[0.5,64]]", *NERF]
    for name, sides in (("sd", [4, 8]), ("deepfloyd_if", [4, 64])):
        _, parts = build_run(compose("config", [*settings, f"prior.path={folder(name)}"]), CPU)
        assert [parts.update_shape(progress) for progress in (0.0, 1.0)] == [(side, side) for side in sides]


def levels(betas: Tensor, unit: float) -> tuple[float, float]:
    """The noise levels of timesteps 980 and 20 of 1000, in our units."""
    abar = torch.cumprod(1 - betas.double(), 0)
    sigmas = unit * ((1 - abar) / abar).sqrt()
    return float(sigmas[980]), float(sigmas[20])


SCALED = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
SIGNAL = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
COSINE = torch.tensor([1 - later / earlier for earlier, later in pairwise(SIGNAL)])
FLOW = 0.5 * 0.98 / 0.02, 0.5 * 0.02 / 0.98
TIMESTEPS = {
    **dict.fromkeys(("sd15", "sd21", "sdxl", "mvdream"), levels(SCALED, 0.5)),
    "deepfloyd_if": levels(COSINE.clamp(max=0.999), 1.0),
    **dict.fromkeys(("sd3", "flux"), FLOW),
}
"""Of the range of timesteps that DreamFusion has, 0.98 to 0.02 of them, by each family's own schedule."""

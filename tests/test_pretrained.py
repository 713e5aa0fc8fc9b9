from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pipelines
import pytest
import torch
import verbs
from safetensors.torch import load_file, save_file
from tiny import NERF
from torch import Tensor, nn

from text23d import cli
from text23d.cameras import SIDES, Cameras
from text23d.contracts import Shape
from text23d.door import commandline
from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.prior.analytic import Gaussian
from text23d.prior.hub import guide as hub_guide
from text23d.prior.hub.guide import guide
from text23d.prior.hub.index import read_index
from text23d.prior.hub.noise import Noise, noise_of
from text23d.prior.hub.parts import load
from text23d.prior.hub.policy import Memory
from text23d.prior.wrappers.codec import Autoencoding, Encoded, LatentCodec, OnGrey, on_grey
from text23d.prior.wrappers.guidance import Guided
from text23d.prior.wrappers.rule import Rule
from text23d.prior.wrappers.vp import Rescaled, VariancePreserving, sigma_table
from text23d.settings import build
from text23d.spaces import to_picture
from text23d.worlds.objects.world import Objects

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
PROMPT = "a corgi in a hat"
ABAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)


def cameras(*azimuths: float, elevation: float = 10.0) -> Cameras:
    def full(value: float) -> Tensor:
        return torch.full((len(azimuths),), value)

    return Cameras(torch.tensor(azimuths), full(elevation), full(3.0), full(40.0))


# --- timesteps and predictions -----------------------------------------------------------------------------------


def vp_network(mean: float, std: float, kind: str) -> Any:
    """What a perfect network trained on N(mean, std^2) predicts at timestep t, by the VP formulas and not by sigma."""

    def predict(x_vp: Tensor, t: Tensor, c: Any) -> Tensor:
        # abar between timesteps: log((1 - abar) / abar) is linear there.
        odds = ((1 - ABAR) / ABAR).log()
        low = t.floor().long().clamp(max=len(ABAR) - 2)
        share = torch.sigmoid(-torch.lerp(odds[low], odds[low + 1], t - low)).reshape(-1, 1, 1, 1)
        gain = std**2 * share.sqrt() / (std**2 * share + 1 - share)
        x0 = mean + gain * (x_vp - share.sqrt() * mean)
        n = (x_vp - share.sqrt() * x0) / (1 - share).sqrt()
        return {"sample": x0, "epsilon": n, "v_prediction": share.sqrt() * n - (1 - share).sqrt() * x0}[kind]

    return predict


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_of_a_perfect_network_is_the_closed_form(kind: str) -> None:
    torch.manual_seed(0)
    adapter = VariancePreserving(vp_network(0.3, 0.7, kind), sigma_table(ABAR), kind)
    x, sigma = 3 * torch.randn(6, 4, 2, 2, dtype=torch.float64), torch.tensor([0.03, 0.1, 0.5, 1.0, 4.0, 14.0])
    sigma = sigma.double()
    torch.testing.assert_close(adapter(x, sigma), Gaussian(0.3, 0.7)(x, sigma), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(adapter(x, sigma[3]), Gaussian(0.3, 0.7)(x, sigma[3]), rtol=1e-9, atol=1e-9)
    half = Rescaled(adapter, 0.5)
    torch.testing.assert_close(half(x, sigma / 2), Gaussian(0.15, 0.35)(x, sigma / 2), rtol=1e-9, atol=1e-9)


def test_timesteps_and_levels_there_and_back() -> None:
    table = sigma_table(ABAR)
    adapter = VariancePreserving(vp_network(0.0, 1.0, "epsilon"), table)
    steps = torch.arange(1000, dtype=torch.float64)
    torch.testing.assert_close(adapter.timestep(table), steps, rtol=0, atol=1e-9)
    middle = (table[:-1] * table[1:]).sqrt()
    torch.testing.assert_close(adapter.timestep(middle), steps[:-1] + 0.5, rtol=0, atol=1e-9)
    ends = adapter.timestep(torch.tensor([1e-4, 1e3], dtype=torch.float64))
    assert ends.tolist() == [0.0, 999.0]
    assert (adapter.timestep(table.float()) - steps).abs().max() < 1e-3
    assert sigma_table(torch.tensor([0.8, 0.5, 0.0, 0.0])).tolist() == pytest.approx([0.5, 1.0, torch.inf])
    shares = torch.tensor([0.8, 0.5, 0.0], dtype=torch.float64)
    zero = VariancePreserving(vp_network(0.0, 1.0, "epsilon"), sigma_table(shares))
    levels = torch.tensor([0.5, 1.0, 2.0, 4.0, 1e9], dtype=torch.float64)
    assert zero.timestep(levels).tolist() == pytest.approx([0.0, 1.0, 1.5, 1.75, 2.0], abs=1e-8)


def test_unknown_prediction_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="predicts 'flow': expected epsilon, v_prediction, sample"):
        VariancePreserving(vp_network(0.0, 1.0, "epsilon"), sigma_table(ABAR), "flow")


# --- the codec ---------------------------------------------------------------------------------------------------


@dataclass
class Plane:
    """A representation that is its own picture, in blocks: [1, 4, side, side] enlarged to any multiple of its side."""

    pixels: nn.Parameter

    def render(self, views: Any, shape: Shape) -> Tensor:
        high, wide = (side // own for side, own in zip(shape, self.pixels.shape[2:], strict=True))
        return self.pixels.repeat_interleave(wide, -1).repeat_interleave(high, -2)

    def parameters(self) -> list[nn.Parameter]:
        return [self.pixels]


def test_background_is_composited() -> None:
    torch.manual_seed(0)
    alpha = torch.rand(2, 1, 5, 5, dtype=torch.float64)
    colour = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    for grey in (0.0, 0.5, 1.0):
        expected = 2 * (alpha * colour + (1 - alpha) * grey) - 1
        torch.testing.assert_close(on_grey(to_picture(alpha * colour, alpha), grey), expected)


def test_codec_shifts_and_scales_the_posterior_mean() -> None:
    class Vae:
        config = SimpleNamespace(block_out_channels=(1, 1, 1), scaling_factor=0.2, shift_factor=0.25)

        def encode(self, rgb: Tensor) -> Any:
            return SimpleNamespace(latent_dist=SimpleNamespace(mean=rgb))

    codec = LatentCodec(Vae(), 0.5)
    assert codec.factor == 4
    torch.testing.assert_close(codec.encode(torch.ones(1, 3, 4, 4)), torch.full((1, 3, 4, 4), 0.075))


# --- a tiny Stable Diffusion, with random weights -----------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.save("sd", tmp_path_factory.mktemp("hub"))


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model, to be damaged."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def edit(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> str:
    """Change the tensors of a part's weights file; the first name, in order, that is no longer there."""
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    changed = change(tensors)
    save_file(changed, path, metadata={"format": "pt"})
    return min(set(tensors) - set(changed))


def asked(prompt: str = PROMPT) -> Request:
    return Request(prompt, Objects(), SIDES, CPU)


def guide_of(folder: Path, prompt: str = PROMPT, **settings: Any) -> Guide:
    return guide(asked(prompt), str(folder), **settings)


def part(folder: Path, name: str) -> Any:
    """A part of a model as we load it."""
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    return load(read_index(folder), {name: kinds[name]}, torch.float32, CPU)[name]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_denoiser_is_what_diffusers_own_scheduler_says(copy: Path, kind: str) -> None:
    from diffusers import DDPMScheduler

    edit(copy / "scheduler" / "scheduler_config.json", prediction_type=kind)
    guide, scheduler = guide_of(copy), DDPMScheduler.from_pretrained(copy, subfolder="scheduler")
    torch.manual_seed(1)
    x_vp, (c, _) = torch.randn(2, 4, 8, 8), guide.conditions(cameras(0.0, 90.0))
    for t in (10, 400, 990):
        abar = scheduler.alphas_cumprod[t]
        with torch.no_grad():
            predicted = part(copy, "unet")(x_vp, t, c.said["text"]).sample
            found = guide.aux(0.5 * x_vp / abar.sqrt(), 0.5 * ((1 - abar) / abar).sqrt(), c)
        expected = scheduler.step(predicted, t, x_vp).pred_original_sample
        torch.testing.assert_close(found, 0.5 * expected, rtol=2e-3, atol=2e-3)


def test_almost_clean_latents_stay(tiny: Path) -> None:
    guide = guide_of(tiny)
    torch.manual_seed(2)
    x, (c, _) = torch.randn(3, 4, 8, 8) / 2, guide.conditions(cameras(0.0, 90.0, 180.0))
    sigma = torch.tensor(1e-3)
    moved = (guide.aux(x, sigma, c) - x).square().mean().sqrt()
    assert 0 < moved < 5 * sigma


def test_guidance_runs_both_prompts_in_one_batch(tiny: Path) -> None:
    guide = guide_of(tiny, guidance=3.0, auxiliary="none")
    torch.manual_seed(3)
    x, sigma = torch.randn(2, 4, 8, 8), torch.tensor([0.7, 2.0])
    c, c_aux = guide.conditions(cameras(0.0, 180.0))
    torch.testing.assert_close(c_aux.said["text"], c.empty["text"].expand(2, -1, -1))
    with torch.no_grad():
        told, untold = guide.aux(x, sigma, c), guide.aux(x, sigma, c_aux)
        guided = guide.main(x, sigma, c)
    torch.testing.assert_close(guided, untold + 3 * (told - untold), rtol=1e-4, atol=1e-5)
    assert (told - untold).abs().max() > 1e-4
    assert isinstance(guide.main, Guided) and guide.main.evaluations == 2
    whole = guide_of(tiny, guidance=1)
    assert whole.main is whole.aux and len({id(each) for each in whole.conditions(cameras(0.0))}) == 1


def test_a_negative_prompt_is_what_guidance_moves_away_from(tiny: Path) -> None:
    """As the pipeline of diffusers encodes it, from every side the same; blank, it is the empty prompt."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny, local_files_only=True)
    _, unwanted = pipeline.encode_prompt(PROMPT, CPU, 1, True, negative_prompt="blurry, deformed")
    torch.manual_seed(5)
    x, sigma, views = torch.randn(2, 4, 8, 8), torch.tensor([0.7, 2.0]), cameras(0.0, 180.0)
    guide = guide_of(tiny, guidance=3.0, negative=" blurry, deformed ")
    c, c_aux = guide.conditions(views)
    assert c is c_aux and torch.equal(c.unconditional().said["text"][0], c.empty["text"]), "D' knows nothing of it"
    with torch.no_grad():
        told = guide.aux(x, sigma, c)
        away = guide.aux(x, sigma, replace(c, said={"text": unwanted.expand_as(c.said["text"])}))
        guided = guide.main(x, sigma, c)
        untold = guide.aux(x, sigma, c.unconditional())
        blank = [guide_of(tiny, guidance=3.0, negative=text).main(x, sigma, c) for text in (None, "", "  ")]
    torch.testing.assert_close(guided, away + 3 * (told - away), rtol=1e-4, atol=1e-5)
    assert (away - untold).abs().max() > 1e-4, "or the test shows nothing"
    for each in blank:
        torch.testing.assert_close(each, untold + 3 * (told - untold), rtol=1e-4, atol=1e-5)


def test_prompts_follow_the_camera(tiny: Path) -> None:
    azimuths = (0.0, 44.0, 46.0, 134.0, 135.0, 180.0, 225.0, 226.0, 314.0, 315.0, 359.0)
    names = [words.removesuffix(" view") for words in cameras(*azimuths).words()]
    assert " ".join(names) == "front front side side back back back side side front front"
    assert cameras(0.0, 90.0, 180.0, elevation=61.0).words() == ["overhead view"] * 3

    from diffusers.pipelines.stable_diffusion import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(tiny, local_files_only=True)
    asked = [f"{PROMPT}, front view", f"{PROMPT}, back view", f"{PROMPT}, side view"]
    positive, negative = pipeline.encode_prompt(asked, CPU, 1, True)
    c, _ = guide_of(tiny).conditions(cameras(10.0, 170.0, 270.0))
    torch.testing.assert_close(c.said["text"], positive, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(c.unconditional().said["text"], negative, rtol=1e-4, atol=1e-5)
    same, _ = guide_of(tiny, view_dependent=False).conditions(cameras(0.0, 90.0))
    torch.testing.assert_close(same.said["text"][0], same.said["text"][1])


def test_gradient_through_the_autoencoder_reaches_the_representation(tiny: Path) -> None:
    codec = LatentCodec(part(tiny, "vae").double(), 0.5)
    torch.manual_seed(4)
    plane = Plane(nn.Parameter(torch.randn(1, 4, 8, 8, dtype=torch.float64) / 4))
    seen, towards = Encoded(plane, codec, 0.8), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    assert list(seen.parameters()) == [plane.pixels] and codec.factor == 2
    rendered = seen.render(None, (8, 8))
    assert rendered.shape == (1, 4, 8, 8)
    torch.testing.assert_close(rendered, seen.render(None, (8, 8)), rtol=0, atol=0)

    def loss(pixels: Tensor) -> Tensor:
        return (Encoded(Plane(nn.Parameter(pixels)), codec, 0.8).render(None, (8, 8)) - towards).square().mean()

    (gradient,) = torch.autograd.grad((rendered - towards).square().mean(), plane.pixels)
    step = torch.randn_like(plane.pixels)
    up, down = loss(plane.pixels.detach() + 1e-5 * step), loss(plane.pixels.detach() - 1e-5 * step)
    assert gradient.abs().min() > 0
    torch.testing.assert_close((gradient * step).sum(), (up - down) / 2e-5, rtol=1e-6, atol=1e-10)


def test_decoding_undoes_the_scale_of_encoding(tiny: Path) -> None:
    """What diffusers' own decoder makes of a code that is neither shifted nor scaled."""
    vae = part(tiny, "vae")
    codec, latent = LatentCodec(vae, 0.5), torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    code = latent * vae.config.scaling_factor * 0.5
    torch.testing.assert_close(codec.decode(code), vae.decode(latent).sample)
    assert codec.decode(code).shape[-1] == 4 * codec.factor
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    mean = vae.encode(picture).latent_dist.mean
    torch.testing.assert_close(codec.decode(codec.encode(picture)), vae.decode(mean).sample, rtol=1e-4, atol=1e-5)


def test_colour_over_grey_is_what_the_autoencoder_is_shown(tiny: Path) -> None:
    codec, plane = LatentCodec(part(tiny, "vae"), 0.5), Plane(nn.Parameter(torch.rand(1, 4, 8, 8) - 0.5))
    shown = OnGrey(plane, 0.8)
    assert list(shown.parameters()) == [plane.pixels]
    torch.testing.assert_close(
        codec.encode(shown.render(None, (16, 16))), Encoded(plane, codec, 0.8).render(None, (8, 8))
    )


# --- a whole run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["prior", "pixels"])
def test_a_run_from_any_prompt(tiny: Path, tmp_path: Path, loss: str) -> None:
    """The command of a person, with everything at its smallest."""
    asked = [
        f"prompt={PROMPT}", f"prior.path={tiny}", "prior=hub",
        "method.iterations=2", "method.views=2", "method.size.stages=[[0.0,4],[0.5,8]]", "stages=1",
        "mesh.resolution=24", "mesh.texture=64", "turntable.frames=2", "turntable.size=16", *NERF,
        "device=cpu", "hydra.run.dir=out", f"method.loss={loss}",
    ]  # fmt: skip
    done = verbs.done(*asked, cwd=tmp_path, environment={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    assert "judge: not asked" in done.stderr.splitlines()[-1]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["score"] is None and summary["prompt"] == PROMPT and summary["iterations"] == 2
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["size"] for line in lines] == [4, 8]
    assert all(line["loss_after"] < line["loss"] for line in lines)
    assert (tmp_path / "out" / "mesh.glb").stat().st_size > 1000


def test_settings_of_the_chosen_prior_are_known_in_any_order() -> None:
    cli.register_resolvers()
    prompt = "prompt=a corgi in a hat"
    commandline.read("run", ["prior.path=x", "prior=hub", prompt])
    commandline.read("run", ["prior=hub", "prior.path=x,y", prompt, "-m"])
    with pytest.raises(UserError, match=r"no setting named 'prior\.path'"):
        commandline.read("run", ["prior.path=x", prompt])
    with pytest.raises(UserError, match=r"no setting named 'prior\.pth'.*did you mean prior\.path"):
        commandline.read("run", ["prior=hub", "prior.pth=x", prompt])
    with pytest.raises(UserError, match="no prior named 'hubb': did you mean hub"):
        commandline.read("run", ["prior.path=x", "prior=hubb", prompt])


# --- what a person can get wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auxiliary": "camera"}, "auxiliary=camera: expected one of full, none"),
        ({"guidance": -1}, "guidance=-1: expected a number at least 0 and at most 1000"),
        ({"background": 2}, "background=2: expected a number at least 0 and at most 1"),
        ({"precision": "int8"}, "precision=int8: expected one of auto, float32, float16, bfloat16"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    node = {"_target_": "text23d.prior.hub.guide.guide", "path": "not-reached", **settings}
    with pytest.raises(UserError, match=rf"^prior\.{message}$"):
        build(node, "prior", request=asked())


def test_an_empty_prompt() -> None:
    with pytest.raises(UserError, match="prompt is empty"):
        guide_of(Path("not-reached"), " ")


def test_too_long_a_prompt(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"113 tokens long with its view: this prior reads 75; shorten it"):
        guide_of(tiny, "x" * 100)


@pytest.mark.usefixtures("tiny")  # diffusers asks but once whether transformers is there, when it is first imported
@pytest.mark.parametrize("name", ["diffusers", "transformers"])
def test_missing_packages(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r'pip install "text23d\[hub\]"'):
        guide_of(Path("not-reached"))


def test_folders_that_are_no_model(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*nowhere: expected a diffusers folder, or a hub repository"):
        guide_of(tmp_path / "nowhere")
    (tmp_path / "sd.ckpt").write_bytes(b"")
    with pytest.raises(UserError, match=r"no model_index\.json in .*sd\.ckpt: .* convert a single-file checkpoint"):
        guide_of(tmp_path / "sd.ckpt")
    edit(copy / "model_index.json", _class_name="AudioLDMPipeline")
    with pytest.raises(UserError, match="holds a AudioLDMPipeline: expected one of StableDiffusionPipeline, "):
        guide_of(copy)
    edit(copy / "model_index.json", _class_name="StableDiffusionPipeline", unet=[None, None])
    with pytest.raises(UserError, match=r"has no unet, by its model_index\.json: download the model again"):
        guide_of(copy)
    (copy / "model_index.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot read .*model_index\.json"):
        guide_of(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_are_safetensors_and_whole(copy: Path, part: str) -> None:
    (weights,) = (copy / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"cannot read {part} of .* is cut short.*download it again"):
        guide_of(copy)
    # A pickle in its place must not be opened, not even to find it is none.
    weights.rename(weights.with_name({"text_encoder": "pytorch_model.bin"}.get(part, "diffusion_pytorch_model.bin")))
    with pytest.raises(UserError, match=rf"cannot read {part} of .*safetensors"):
        guide_of(copy)


def test_missing_parts(copy: Path) -> None:
    for part in ("tokenizer", "scheduler"):
        shutil.rmtree(copy / part)
        with pytest.raises(UserError, match=f"cannot read {part} of "):
            guide_of(copy)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_no_weight_is_left_to_chance(copy: Path, part: str) -> None:
    def without_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: tensors[key] for key in sorted(tensors)[1:]}

    missing = rewrite(copy / part, without_first)
    with pytest.raises(UserError, match=rf"cannot read {part} of .* \(no weights for {missing}\)"):
        guide_of(copy)


def test_names_of_weights_in_released_models(tiny: Path, copy: Path) -> None:
    """Stable Diffusion 1.5 was published with older names and another scheduler: they must come to the same."""
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def old_attention(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        for new, old in older.items():
            tensors = {
                key.replace(f".{new}.", f".{old}.") if "attentions" in key else key: value
                for key, value in tensors.items()
            }
        return tensors

    def old_text_model(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        prefixed = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in tensors.items()}
        return {**prefixed, "text_model.embeddings.position_ids": torch.arange(77)[None]}

    rewrite(copy / "vae", old_attention)
    rewrite(copy / "text_encoder", old_text_model)
    settings = copy / "scheduler" / "scheduler_config.json"
    betas = {key: value for key, value in json.loads(settings.read_text()).items() if key.startswith("beta")}
    others = {"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1, "trained_betas": None}
    settings.write_text(json.dumps({"_class_name": "PNDMScheduler", **betas, **others}))
    now, then = noise_of(read_index(tiny)), noise_of(read_index(copy))
    assert then.prediction == "epsilon" and then.consistency is None
    assert now.sigmas is not None and then.sigmas is not None
    assert torch.equal(then.sigmas, now.sigmas) and len(now.sigmas) == 1000
    for name in ("vae", "text_encoder"):
        torch.testing.assert_close(part(copy, name).state_dict(), part(tiny, name).state_dict(), rtol=0, atol=0)


def test_models_of_other_kinds(copy: Path) -> None:
    settings = copy / "scheduler" / "scheduler_config.json"
    edit(settings, prediction_type="flow")
    with pytest.raises(UserError, match="the model predicts 'flow': expected epsilon"):
        guide_of(copy)
    settings.write_text('{"_class_name": "KarrasVeScheduler"}')
    with pytest.raises(UserError, match="KarrasVeScheduler, has no betas and is none of a flow"):
        guide_of(copy)
    settings.write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}')
    assert noise_of(read_index(copy)) == Noise("flow")


def test_networks_that_do_not_belong_together(copy: Path) -> None:
    from diffusers import UNet2DConditionModel

    settings = dict(json.loads((copy / "unet" / "config.json").read_text()), in_channels=5, out_channels=5)
    UNet2DConditionModel.from_config(settings).save_pretrained(copy / "unet")
    with pytest.raises(UserError, match="makes 5 channels, its autoencoder 4: they do not belong together"):
        guide_of(copy)


def test_resolutions(tiny: Path) -> None:
    assert guide_of(tiny).shape == (8, 8) and guide_of(tiny, resolution=32).shape == (16, 16)
    with pytest.raises(UserError, match=r"^prior\.resolution=20: expected a multiple of 16, such as 16$"):
        guide_of(tiny, resolution=20)


@pytest.mark.parametrize(
    "settings",
    [
        {"resolution": 20},
        {"embedded": 3.5},
        {"autoencoder": Autoencoding(tile=33)},
        {"memory": Memory(offload=True)},
        {"rule": Rule(perp_neg=1.0), "negative": " "},
        {"pictures": "nowhere"},
        {"image": "nowhere.png"},
        {"ip_adapter": "nowhere"},
        {"image": "nowhere.png", "ip_adapter": "nowhere"},
    ],
)
def test_settings_that_cannot_be_are_told_before_anything_is_loaded(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    """Not even diffusers."""
    monkeypatch.setattr(hub_guide, "load_model", lambda *given: pytest.fail("it was loaded"))
    with pytest.raises(UserError, match=r"^prior\."):
        guide_of(tiny, **settings)


def test_guidance_that_was_not_learned(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"prior\.embedded=3\.5: .* learned no guidance; leave it out"):
        guide_of(tiny, embedded=3.5)

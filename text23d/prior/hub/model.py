"""A pretrained model, loaded: its network as D, and what it is told of each view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from text23d.contracts import Denoiser, Views
from text23d.errors import UserError
from text23d.prior.hub.condition import Said, TextCondition, row
from text23d.prior.hub.families import family_of
from text23d.prior.hub.family import Family, Network, nothing_of_views
from text23d.prior.hub.footprint import expect_weights
from text23d.prior.hub.index import Index
from text23d.prior.hub.noise import Noise, noise_of
from text23d.prior.hub.parts import load, require_diffusers
from text23d.prior.hub.policy import AS_IT_IS, Memory
from text23d.prior.hub.views import ViewPrompts, between
from text23d.prior.wrappers.codec import WHOLE, Autoencoding, factor_of
from text23d.prior.wrappers.vp import Rescaled

Precision = Literal["auto", "float32", "float16", "bfloat16"]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LATENT_STD = 0.5
"""Pictures have a deviation of about 0.5. With latents of the same, a schedule of sigma means the same for both."""
USUAL: dict[str, Any] = {"latent_channels": 4, "scaling_factor": 0.18215, "shift_factor": None}
"""What sets latents apart, as diffusers takes it where an autoencoder's file does not say."""
MULTIPLE = 8
"""What the network sees has to have sides that it can halve this far."""


@dataclass(frozen=True)
class Prompts:
    """each: a prompt -> words of a view -> the prompt with them. unwanted: the negative prompt; None: there is none."""

    each: Sequence[dict[str, str]]
    unwanted: str | None = None

    @staticmethod
    def of(prompts: Sequence[str], views: Iterable[str], negative: str | None, sides: ViewPrompts | None) -> Prompts:
        """Those of a request, whose views may say these words. sides: of each side; None: the same for all."""
        words = list(views)
        each = [
            {say: prompt.strip() if sides is None else sides.said(prompt.strip(), say) for say in words}
            for prompt in prompts
        ]
        return Prompts(each, (negative or "").strip() or None)

    @property
    def different(self) -> list[str]:
        """All that is to be encoded, once each: first the empty prompt."""
        said = [prompt for each in self.each for prompt in each.values()]
        return list(dict.fromkeys(["", *([self.unwanted] if self.unwanted else []), *said]))


@dataclass(frozen=True)
class Wanted:
    """How a model shall be loaded. resolution: pixels along a side; None: as it was trained. autoencoding, memory: how
    its autoencoder and its network compute. between: whether views between two sides are told of both."""

    device: torch.device
    precision: Precision = "auto"
    resolution: int | None = None
    autoencoding: Autoencoding = WHOLE
    memory: Memory = AS_IT_IS
    between: bool = False

    def dtype(self, noise: Noise) -> torch.dtype:
        """Of the networks. Flows were trained in bfloat16, and overflow in float16."""
        if self.precision != "auto":
            return DTYPES[self.precision]
        if self.device.type != "cuda":
            return torch.float32
        return torch.bfloat16 if noise.sigmas is None else torch.float16


@dataclass(frozen=True)
class Model:
    """prompts: of each prompt, words of a view -> what is said; empty, unwanted: of the empty and the negative prompt;
    extras: what else the network is told, each [...]; sees, group: see `Family`. unit: the deviation of its data in our
    units over that in its own. side: of what it sees. embeds: whether it is told the scale of a guidance that it has
    learned."""

    denoiser: Denoiser
    noise: Noise
    network: Any
    vae: Any
    side: int
    unit: float
    embeds: bool
    prompts: Sequence[dict[str, Said]]
    empty: Said
    unwanted: Said | None
    extras: Said
    between: bool = False
    sees: Callable[[Views], Said] = nothing_of_views
    group: int = 1

    @property
    def channels(self) -> int:
        """Of what the network denoises."""
        return 3 if self.vae is None else int(self.vae.config.latent_channels)

    def nothing(self, count: int) -> TextCondition:
        """What it is told of so many examples of which nothing is said."""
        every = {**self.empty, **self.extras, **({"scale": torch.ones(())} if self.embeds else {})}
        device = self.empty["text"].device
        said = {name: each.to(device).expand(count, *each.shape) for name, each in every.items()}
        return TextCondition(said, self.empty)

    def condition(self, number: int, views: Views, embedded: float = 1.0) -> TextCondition:
        """What it is told of these views under the prompt of this number."""
        prompts, words = self.prompts[number], views.words()
        said = {name: torch.stack([prompts[each][name] for each in words]) for name in self.empty}
        if self.between:
            said = {**said, **between(dict(prompts), views)}
        more = {name: each.expand(len(words), *each.shape) for name, each in self.extras.items()}
        more |= {name: each.to(self.empty["text"].device) for name, each in self.sees(views).items()}
        scale = {"scale": self.empty["text"].new_full((len(words),), embedded)} if self.embeds else {}
        return TextCondition({**said, **more, **scale}, self.empty)


def load_model(index: Index, prompts: Prompts, wanted: Wanted, like: Model | None = None) -> Model:
    """A model that has been told these prompts; its text encoders are gone by then.

    like: one whose autoencoder serves, if the two have the same latents. Raises UserError where a part is damaged, a
    prompt is too long, or these latents are others.
    """
    require_diffusers()
    family, noise = family_of(index), noise_of(index)
    dtype, device = wanted.dtype(noise), wanted.device
    said = encoded(family, index, prompts.different, dtype, device)
    empty = family.unsaid(index, said[""])
    name, kind = family.network
    home = wanted.memory.home(device)
    expect_weights(index, name, dtype, home)
    network = load(index, {name: kind}, dtype, home)[name]
    family.complete(network, index)
    vae = autoencoder(index, family, network, device, like)
    factor = 1 if vae is None else factor_of(vae.config.block_out_channels)
    side = side_of(family, network.config, factor, wanted.resolution)
    extras = {name: each.to(device) for name, each in family.extras(network, vae, factor * side).items()}
    if vae is not None and like is None:
        vae = wanted.autoencoding.of(vae, device, factor * side)
    unit = LATENT_STD if family.latents else 1.0
    inner = noise.denoiser(Network(network, family.predict, dtype), device)
    return Model(
        inner if unit == 1 else Rescaled(inner, unit),
        noise,
        network,
        vae,
        side,
        unit,
        family.embeds(network.config),
        [{words: said[prompt] for words, prompt in each.items()} for each in prompts.each],
        empty,
        None if prompts.unwanted is None else said[prompts.unwanted],
        extras,
        wanted.between,
        family.sees,
        family.group,
    )


def encoded(
    family: Family, index: Index, prompts: Sequence[str], dtype: torch.dtype, device: torch.device
) -> dict[str, Said]:
    """Each of these prompts, encoded. The encoders are let go of before the network is loaded."""
    for name, kind in family.encoders.items():
        if name in index.parts and "Tokenizer" not in kind:
            expect_weights(index, name, dtype, device)
    parts = load(index, family.encoders, dtype, device)
    said = family.encode(parts, prompts)
    return {prompt: row(said, number) for number, prompt in enumerate(prompts)}


def autoencoder(index: Index, family: Family, network: Any, device: torch.device, like: Model | None) -> Any:
    """A model's own, in float32, or that of another with the same latents; None where the network sees pixels.

    Raises UserError where it has other channels than the network, or other latents than `like`.
    """
    channels = family.channels(network.config)
    if like is not None:
        require_same_latents(index, family, None if like.vae is None else like.vae.config)
        return like.vae
    if not family.latents:
        return None
    vae = load(index, {"vae": "AutoencoderKL"}, torch.float32, device)["vae"]
    if channels != vae.config.latent_channels:
        raise UserError(
            f"the network in {index.folder} makes {channels} channels, its autoencoder {vae.config.latent_channels}: "
            "they do not belong together; download the model again"
        )
    return vae


def require_same_latents(index: Index, family: Family, others: Mapping[str, Any] | None) -> None:
    """Raises UserError where a model has other latents than an autoencoder of these settings; None: pixels."""
    own = index.config("vae") if family.latents else None
    if latents_of(own) != latents_of(others):
        raise UserError(f"prior.auxiliary_path: {index.folder} has other latents than D; choose one of its family")


def latents_of(config: Mapping[str, Any] | None) -> list[Any] | None:
    """What an AutoencoderKL's settings say of its latents; those that old files leave out are diffusers' own."""
    return None if config is None else [config.get(name, usual) for name, usual in USUAL.items()]


def side_of(family: Family, config: Mapping[str, Any], factor: int, resolution: int | None) -> int:
    """The side of what a network of these settings sees, of which an element is `factor` pixels. Raises UserError for a
    resolution that it cannot have."""
    if resolution is None:
        return family.sides(config)
    unit = MULTIPLE * factor
    if resolution % unit:
        nearest = max(1, round(resolution / unit)) * unit
        raise UserError(f"prior.resolution={resolution}: expected a multiple of {unit}, such as {nearest}")
    return resolution * MULTIPLE // unit

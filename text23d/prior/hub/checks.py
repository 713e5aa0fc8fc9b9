"""What is wrong with a prior's settings, by themselves and by what a model's files say, before anything is loaded."""

from __future__ import annotations

from contextlib import suppress

from text23d.errors import UserError
from text23d.prior.hub.families import family_of
from text23d.prior.hub.image import require_adaptable
from text23d.prior.hub.index import Index
from text23d.prior.hub.model import Wanted, require_same_latents, side_of
from text23d.prior.wrappers.codec import factor_of
from text23d.prior.wrappers.guidance import require_negative
from text23d.prior.wrappers.reference import pictures_of
from text23d.prior.wrappers.rule import Rule


def require_given(
    rule: Rule,
    negative: str | None,
    pictures: str | None,
    shown: bool,
    auxiliary_path: str | None,
) -> None:
    """Raises UserError for settings of `guide.guide` that lack or contradict another one, or name what is not there.
    shown: whether the model is told a picture."""
    require_negative(rule, bool((negative or "").strip()))
    if pictures is not None:
        pictures_of(pictures)
    if shown and auxiliary_path is not None:
        raise UserError("prior.image is told to one model: leave prior.auxiliary_path out, or the picture")


def require_possible(index: Index, other: Index | None, wanted: Wanted, embedded: float | None, shown: bool) -> None:
    """Raises UserError for what this model, with `other` for D', cannot be asked. shown: whether it is told a
    picture."""
    wanted.memory.home(wanted.device)
    family = family_of(index)
    part, kind = family.network
    config, vae = index.config(part), index.config("vae") if family.latents else None
    if embedded is not None and not family.embeds(config):
        raise UserError(f"prior.embedded={embedded:g}: {index.folder} learned no guidance; leave it out")
    if shown:
        require_adaptable(kind, family.group)
    if other is not None:
        require_same_latents(other, family_of(other), vae)
    with suppress(KeyError):  # what an old file does not say is diffusers' own, and known once the model is loaded
        factor = 1 if vae is None else factor_of(vae["block_out_channels"])
        side = factor * side_of(family, config, factor, wanted.resolution)
        if vae is not None:
            wanted.autoencoding.require_tiles(factor, side)

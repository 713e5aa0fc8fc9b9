"""Open-vocabulary priors: pretrained models of every family that is known, loaded through diffusers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from text23d.cameras import SIDES
from text23d.contracts import Views
from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.prior.hub.checks import require_given, require_possible
from text23d.prior.hub.condition import TextCondition, saying
from text23d.prior.hub.footprint import Footprint
from text23d.prior.hub.image import adapted, read_shown
from text23d.prior.hub.index import Index
from text23d.prior.hub.locate import locate
from text23d.prior.hub.model import Model, Precision, Prompts, Wanted, load_model
from text23d.prior.hub.parts import require_packages
from text23d.prior.hub.policy import AS_IT_IS, Memory
from text23d.prior.hub.views import PLAIN as PLAIN_VIEWS
from text23d.prior.hub.views import ViewPrompts, opponents
from text23d.prior.wrappers.codec import WHOLE, Autoencoding, Codec, LatentCodec, Latents, Pixels
from text23d.prior.wrappers.guidance import Scale, guided
from text23d.prior.wrappers.reference import Table, reference_rms
from text23d.prior.wrappers.rule import PLAIN, Rule, kept
from text23d.settings import Count, Flag, Share, Text


def guide(
    request: Request,
    path: str | None = None,
    mirrors: Sequence[Text] = (),
    revision: str | None = None,
    licence: str | None = None,
    guidance: Scale = 7.5,
    embedded: Scale | None = None,
    rule: Rule = PLAIN,
    negative: str | None = None,
    auxiliary: Literal["full", "none"] = "full",
    auxiliary_path: str | None = None,
    view_dependent: Flag = True,
    view_prompts: ViewPrompts = PLAIN_VIEWS,
    between_views: Flag = False,
    image: str | None = None,
    ip_adapter: str | None = None,
    image_scale: Share = 1.0,
    pictures: str | None = None,
    resolution: Count | None = None,
    background: Share = 0.5,
    precision: Precision = "auto",
    autoencoder: Autoencoding = WHOLE,
    memory: Memory = AS_IT_IS,
) -> Guide:
    """A pretrained model as D with classifier-free guidance, and as D' without, told `auxiliary`: the same prompt as D
    (full), or the empty one (none). What `conf/prior/hub.yaml` explains is not said again.

    between_views   views between two sides are told of both and led away from others; see `views.Sides`.
    pictures     those on which rms(x - D'(x)) is measured once, D' told nothing; None: it is unknown.
    Raises UserError for an empty or too long prompt, and a model that cannot be had or read.
    """
    if not all(prompt.strip() for prompt in request.prompts):
        raise UserError('prompt is empty: say what to make, for example "a corgi in a hat"')
    require_packages()
    shown = read_shown(image, ip_adapter)
    require_given(rule, negative, pictures, shown is not None, auxiliary_path)
    index = locate(path, mirrors, revision)
    other = None if auxiliary_path is None else locate(auxiliary_path, (), None)
    views = dict.fromkeys(["", *request.view_words])
    if between_views and not (view_dependent and set(SIDES) <= set(views)):
        raise UserError("prior.between_views=true: expected an object, and prior.view_dependent=true; leave it out")
    prompts = Prompts.of(request.prompts, views, negative, view_prompts if view_dependent else None)
    wanted = Wanted(request.device, precision, resolution, autoencoder, memory, between_views)
    require_possible(index, other, wanted, embedded, shown is not None)
    model = load_model(index, prompts, wanted)
    aux = model if other is None else load_model(other, prompts, wanted, model)
    if shown is not None:
        model = aux = adapted(model, shown, image_scale)
    made = assembled(model, aux, 1.0 if embedded is None else embedded, auxiliary, background, wanted)
    if memory != AS_IT_IS:
        memory.applied({id(each.network): each.network for each in (model, aux)}.values(), made.footprint)
    away = partial(saying, model.unwanted) if model.unwanted else None
    against = opponents(model.prompts[0]) if between_views else ()
    return replace(
        made,
        main=guided(model.denoiser, guidance, rule, kept(model.noise.prediction, model.unit), away, against),
        reference_rms=None if pictures is None else table(aux, codec_of(aux), pictures, other or index, wanted),
        about=about(index, licence),
    )


def assembled(model: Model, aux: Model, embedded: float, auxiliary: str, background: float, wanted: Wanted) -> Guide:
    """D and D' of these models, without guidance; see `guide`."""
    asked = [partial(conditions, model, aux, number, embedded, auxiliary) for number in range(len(model.prompts))]
    codec, shape, home = codec_of(model), (model.channels, *(model.side,) * 2), wanted.memory.home(wanted.device)
    return Guide(
        model.denoiser,
        aux.denoiser,
        shape=(model.side,) * 2,
        conditions=asked[0],
        others=asked[1:],
        latents=Latents(codec, background),
        complete=partial(complete, model.unit) if "known" in model.extras else None,
        group=math.lcm(model.group, aux.group),
        footprint=Footprint(model.denoiser, model.nothing, shape, codec, wanted.device, home),
    )


def codec_of(model: Model) -> Codec:
    """Between colour and what the model denoises."""
    return Pixels() if model.vae is None else LatentCodec(model.vae, model.unit)


def table(aux: Model, codec: Codec, pictures: str, index: Index, wanted: Wanted) -> Table:
    """rms(x - D'(x)) on pictures, D' told the empty prompt; see `reference.reference_rms`."""
    pixels = (codec.factor * aux.side,) * 2
    how = f"{wanted.precision} {wanted.autoencoding} {pixels}"
    return reference_rms(aux.denoiser, aux.nothing, codec.encode, pixels, pictures, index.folder, wanted.device, how)


def conditions(
    model: Model, aux: Model, number: int, embedded: float, auxiliary: str, views: Views
) -> tuple[TextCondition, TextCondition]:
    """(c, c') for D and D' of these views under the request's prompt of this number; the same object where both are
    told the same by the same model."""
    c = model.condition(number, views, embedded)
    same = aux is model and (embedded == 1 or not model.embeds)
    c_aux = c if same else aux.condition(number, views)
    return c, c_aux if auxiliary == "full" else c_aux.unconditional()


def complete(unit: float, c: TextCondition, known: Tensor, unknown: Tensor) -> TextCondition:
    """An inpainting model's condition with what is known, [B, C, S, S] in our units, and a mask, 1 where it is not."""
    if "known" not in c.said:  # of D', where that is another model
        return c
    return replace(c, said={**c.said, "known": torch.cat([unknown, known / unit], dim=1).to(c.said["known"])})


def about(index: Index, licence: str | None) -> dict[str, str]:
    """What a person should know of the model: its name, its pipeline and its licence. Those of the hub's cache lie in
    models--owner--name/snapshots/<commit>."""
    folder = index.folder.resolve()
    name, revision = folder.name, None
    if folder.parent.name == "snapshots":
        name, revision = folder.parents[1].name.removeprefix("models--").replace("--", "/", 1), folder.name
    told = index.licence or licence or "unknown: see the model's card"
    return {
        "name": name,
        **({"revision": revision} if revision else {}),
        "pipeline": index.pipeline,
        "licence": told,
    }

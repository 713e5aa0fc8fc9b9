"""The built-in prior as D, which draws towards what was asked for, and D', which moves between level 0 and level sigma
([0040])."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from text23d.contracts import Views, World
from text23d.guide import Guide, Request
from text23d.paths import weights_dir, weights_of
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import Condition
from text23d.prior.wrappers.guidance import Scale, guided
from text23d.prior.wrappers.rule import PLAIN, Rule, kept

SMALL = "small"
CONDITIONINGS = {"full": "full", "camera": "views", "none": "none"}
"""Those of D' that a person may choose -> those of `prior.CONDITIONINGS`."""


def guide(
    request: Request,
    weights: str | None = None,
    guidance: Scale = 1.5,
    negative: str | None = None,
    auxiliary: Literal["full", "camera", "none"] = "full",
    auxiliary_weights: str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    rule: Rule = PLAIN,
) -> Guide:
    """The shipped prior as D with classifier-free guidance, and as D' without, conditioned on `auxiliary`.

    negative: a prompt that guidance moves away from; None: from no caption at all. Both are of the request's world.
    weights, auxiliary_weights: files of D and of D'; None: the shipped prior of the world, and the same as D. SMALL:
    the shipped small prior of objects.
    precision: auto (bfloat16 where the processor multiplies it natively), float32 or bfloat16.
    rule: how guidance leads away, if not plainly.
    Raises UserError for bad weights and unknown words.
    """
    world, device = request.world, request.device
    captions = [world.read(prompt) for prompt in request.prompts]
    said = [world.tokens(prompt) for prompt in request.prompts]
    unwanted = world.tokens(negative, "prior.negative") if negative else ()
    dtypes = {"auto": builtin.fast_precision(device), "float32": torch.float32, "bfloat16": torch.bfloat16}
    prior = builtin.load(shipped(weights, world), device, dtypes[precision])
    aux = builtin.load(shipped(auxiliary_weights, world), device, dtypes[precision]) if auxiliary_weights else prior
    for each in (prior, aux):
        each.vocabulary.encode(said)
    away = prior.vocabulary.encode([unwanted])[0] if negative else None
    main = guided(
        prior.denoiser,
        guidance,
        rule,
        kept("v_prediction", prior.denoiser.sigma_data),
        None if away is None else lambda c: c.saying(away),
    )
    asked = [partial(conditions, prior, aux, words, auxiliary) for words in said]
    return Guide(
        main,
        aux.denoiser,
        reference_rms=partial(aux.reference_rms, conditioning=CONDITIONINGS[auxiliary]),
        shape=prior.shape,
        conditions=asked[0],
        others=asked[1:],
        captions=captions,
    )


def conditions(
    prior: builtin.BuiltinPrior, aux: builtin.BuiltinPrior, words: Sequence[str], auxiliary: str, views: Views
) -> tuple[Condition, Condition]:
    """(c, c') for D and D' of these words and views; the same object where they are the same."""
    c: Condition = prior.condition(words, views)
    return c, hide(c if aux is prior else aux.condition(words, views), auxiliary)


def hide(c: Condition, auxiliary: str) -> Condition:
    """What is left of c for a denoiser that is conditioned on `auxiliary` alone: full, camera or none."""
    if auxiliary == "full":
        return c
    return c.unconditional() if auxiliary == "camera" else c.unconditional().without_views()


def shipped(weights: str | None, world: World[Any]) -> str | Path:
    """The file meant by a setting that may be SMALL; None: the shipped one of the world."""
    if weights == SMALL:
        return weights_dir() / "prior_small.safetensors"
    return weights_of("prior", world.name) if weights is None else weights

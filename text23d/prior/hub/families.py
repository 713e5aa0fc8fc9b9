"""The families that can be read, and nothing else: a model chooses among them by the class of its pipeline."""

from __future__ import annotations

from text23d.errors import UserError
from text23d.prior.hub import deepfloyd_if, flux, mvdream, pixart, sd, sd3, sdxl
from text23d.prior.hub.family import Family
from text23d.prior.hub.index import Index

FAMILIES = (sd.FAMILY, sdxl.FAMILY, deepfloyd_if.FAMILY, sd3.FAMILY, flux.FAMILY, pixart.FAMILY, mvdream.FAMILY)
PIPELINES = {pipeline: family for family in FAMILIES for pipeline in family.pipelines}


def family_of(index: Index) -> Family:
    """Raises UserError for a model of another kind, or one that lacks its network or its words."""
    if index.pipeline not in PIPELINES:
        raise UserError(f"{index.folder} holds a {index.pipeline}: expected one of {', '.join(PIPELINES)}")
    family = PIPELINES[index.pipeline]
    wanted = [family.network[0], *family.more, "scheduler", "text_encoder", *(["vae"] if family.latents else [])]
    absent = [name for name in wanted if name not in index.parts]
    if absent:
        raise UserError(f"{index.folder} has no {absent[0]}, by its model_index.json: download the model again")
    return family

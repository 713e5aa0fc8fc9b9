"""The prior that ships with the package: its weights file, and the denoiser, words and noise table read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from text23d.contracts import Shape, Views
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import weights_dir
from text23d.prior.builtin import edm
from text23d.prior.builtin.condition import Condition, on_views
from text23d.prior.builtin.layers import WEIGHTS
from text23d.prior.builtin.packing import packed, unpacked
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.settings import Count, Positive, read

FORMAT, EARLIER = "text23d-prior-4", "text23d-prior-3"
CONDITIONINGS = ("full", "views", "none")
"""What a denoiser may be conditioned on: caption and views, the views, or nothing."""
Table = dict[str, list[Positive]]
COLUMNS = ("sigma", *(f"rms_{conditioning}" for conditioning in CONDITIONINGS))


@dataclass(frozen=True)
class BuiltinPrior:
    """denoiser: D(x; sigma, c); vocabulary: the words it reads; table: what `training.noise_table` measured;
    shape: S of its examples [B, C, *S]; card: facts of its training."""

    denoiser: edm.Preconditioned
    vocabulary: Vocabulary
    table: Table
    shape: Shape
    card: dict[str, Any]

    def condition(self, prompt: str | Sequence[str], views: Views) -> Condition:
        """One prompt, as text or already split into words, for every view; "": none. Raises UserError for a word it
        does not know."""
        device = next(self.denoiser.parameters()).device
        ids = self.vocabulary.encode([prompt]).expand(len(views), -1)
        return on_views(ids, views, self.shape).to(device)

    def reference_rms(self, sigma: float, conditioning: str = "full") -> float:
        """rms(x - D(x; sigma)) on real examples, interpolated between the table's levels in log-log.

        conditioning: what D is conditioned on, one of CONDITIONINGS.
        """
        levels, values = np.log(self.table["sigma"]), np.log(self.table[f"rms_{conditioning}"])
        return float(np.exp(np.interp(np.log(sigma), levels, values)))


@dataclass(frozen=True)
class Facts:
    """What a prior's file says beside its weights."""

    config: UNetConfig
    sigma_data: Positive
    words: tuple[str, ...]
    table: Table
    shape: tuple[Count, ...]
    card: dict[str, Any]

    def __post_init__(self) -> None:
        if len(self.words) != self.config.words or len(self.shape) != self.config.dimensions:
            raise UserError(f"{len(self.words)} words and shape {self.shape} do not fit config")
        columns, levels = [self.table.get(name, []) for name in COLUMNS], self.table.get("sigma", [])
        if not levels or any(len(column) != len(levels) for column in columns):
            raise UserError(f"table: expected a number for each level in {', '.join(COLUMNS)}")
        if any(low >= high for low, high in pairwise(levels)):
            raise UserError("table.sigma: expected rising levels")


def fast_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it natively (2 to 2.5 x on such CPUs), float32 elsewhere."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.bfloat16 if native else torch.float32


def save(path: Path, prior: BuiltinPrior, bits: Literal[8, 16] = 16) -> None:
    """Write the prior's weights, as float16 or in 8 bits (`packing`), with all that is needed to use them. Raises
    UserError if that fails."""
    facts = {
        "format": FORMAT,
        "config": asdict(prior.denoiser.network.config),
        "sigma_data": prior.denoiser.sigma_data,
        "words": prior.vocabulary.words,
        "table": prior.table,
        "shape": prior.shape,
        "card": prior.card,
    }
    weights = prior.denoiser.network.state_dict()
    half = {name: weight.half().contiguous().cpu() for name, weight in weights.items()}
    save_tensors(path, half if bits == 16 else packed(weights), "prior", facts)


def read_file(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """The weights and the facts in a prior's file. Raises UserError where it is missing, damaged or foreign."""
    tensors, facts = load_tensors(path, "prior")
    if facts.get("format") not in (FORMAT, EARLIER):
        raise UserError(f"{path} is not a prior ({FORMAT} expected): train one with python -m text23d.train_prior")
    try:
        return unpacked(tensors), read(Facts, upgraded(facts) if facts["format"] == EARLIER else facts)
    except UserError as error:
        raise UserError(f"{path} is damaged ({str(error)[:200]}): restore it or train again") from error


def upgraded(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of the EARLIER format says, in the words of this one: it knew only square pictures and cameras."""
    table = said.get("table")
    if isinstance(table, dict):
        table = {name.replace("rms_camera", "rms_views"): column for name, column in table.items()}
    return {**said, "table": table, "shape": [said.get("size")] * 2}


def load(
    path: str | Path | None = None, device: torch.device | str = "cpu", precision: torch.dtype = torch.float32
) -> BuiltinPrior:
    """Read a prior's weights; no path: those shipped with the package.

    Raises UserError where the file is missing, damaged, or not a prior of this format.
    """
    path = Path(path) if path is not None else weights_dir() / "prior.safetensors"
    tensors, facts = read_file(path)
    with torch.device("meta"):  # nothing is drawn, and nothing allocated for what the file only claims
        network = UNet(facts.config)
    try:
        network.load_state_dict({k: v.float() for k, v in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the network it describes: restore it or train again") from error
    denoiser = edm.Preconditioned(network, facts.sigma_data, precision)
    denoiser.to(device).to(memory_format=WEIGHTS[facts.config.dimensions])  # type: ignore[call-overload]
    vocabulary = Vocabulary(facts.words, facts.config.text_length)
    return BuiltinPrior(denoiser.eval().requires_grad_(False), vocabulary, facts.table, facts.shape, facts.card)

"""The prior that ships with the package: its weights file, and the denoiser, words and noise table read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from text23d.contracts import Views
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import weights_dir
from text23d.prior.builtin import edm
from text23d.prior.builtin.condition import Condition, known
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNet, UNetConfig

FORMAT = "text23d-prior-3"


@dataclass(frozen=True)
class BuiltinPrior:
    """denoiser: D(x; sigma, c); vocabulary: the words it reads; table: what `training.noise_table` measured;
    size: side of its pictures; card: facts of its training."""

    denoiser: edm.Preconditioned
    vocabulary: Vocabulary
    table: dict[str, list[float]]
    size: int
    card: dict[str, Any]

    def condition(self, words: Sequence[str], cameras: Views) -> Condition:
        """One caption, already split into words, for every camera. Raises UserError for a word it does not know."""
        device = next(self.denoiser.parameters()).device
        ids = self.vocabulary.encode([words]).expand(len(cameras), -1)
        return Condition(ids, known(cameras)).to(device)

    def reference_rms(self, sigma: float, told: str = "full") -> float:
        """rms(x - D(x; sigma)) on real pictures, interpolated between the table's levels in log-log.

        told: what D is told about them: full (caption and camera), camera, or none.
        """
        levels, values = np.log(self.table["sigma"]), np.log(self.table[f"rms_{told}"])
        return float(np.exp(np.interp(np.log(sigma), levels, values)))


def fast_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it natively (2 to 2.5 x on such CPUs), float32 elsewhere."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.bfloat16 if native else torch.float32


def save(path: Path, prior: BuiltinPrior) -> None:
    """Write the prior's weights as float16 with all that is needed to use them. Raises UserError if that fails."""
    facts = {
        "format": FORMAT,
        "config": asdict(prior.denoiser.network.config),
        "sigma_data": prior.denoiser.sigma_data,
        "words": prior.vocabulary.words,
        "table": prior.table,
        "size": prior.size,
        "card": prior.card,
    }
    tensors = {k: v.half().contiguous().cpu() for k, v in prior.denoiser.network.state_dict().items()}
    save_tensors(path, tensors, "prior", facts)


def read_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The float16 weights and the facts in a prior's file. Raises UserError where it is missing, damaged or foreign."""
    tensors, facts = load_tensors(path, "prior")
    if facts.get("format") != FORMAT:
        raise UserError(f"{path} is not a prior ({FORMAT} expected): train one with python -m text23d.train_prior")
    return tensors, facts


def load(
    path: str | Path | None = None, device: torch.device | str = "cpu", precision: torch.dtype = torch.float32
) -> BuiltinPrior:
    """Read a prior's weights; no path: those shipped with the package.

    Raises UserError where the file is missing, damaged, or not a prior of this format.
    """
    path = Path(path) if path is not None else weights_dir() / "prior.safetensors"
    tensors, facts = read_file(path)
    shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["config"].items()}
    config = UNetConfig(**shape)
    network = UNet(config)
    try:
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the network it describes: restore it or train again") from error
    denoiser = edm.Preconditioned(network, facts["sigma_data"], precision)
    denoiser.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    vocabulary = Vocabulary(tuple(facts["words"]), config.text_length)
    return BuiltinPrior(denoiser.eval().requires_grad_(False), vocabulary, facts["table"], facts["size"], facts["card"])

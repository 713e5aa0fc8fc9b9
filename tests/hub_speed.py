"""A pretrained prior of full size, with random weights: `python tests/hub_speed.py device=meta`, cpu or cuda.

The network is the UNet of Stable Diffusion 2.x, 866 million parameters. On the meta device nothing is computed: the
same code runs through, and the FLOPs are counted. On a CPU one evaluation through D is compared with a bare call; on a
GPU the main job is run, too: iterations a second, the share of the time in the network, FLOP/s, and the
peak of memory over what was foreseen.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import FlopCounterMode

from text23d.contracts import Denoiser
from text23d.prior.hub import sd
from text23d.prior.hub.condition import TextCondition
from text23d.prior.hub.family import Network
from text23d.prior.hub.model import LATENT_STD
from text23d.prior.hub.noise import Noise
from text23d.prior.hub.parts import require_diffusers
from text23d.prior.wrappers.vp import Rescaled, sigma_table

UNET: dict[str, Any] = {
    "sample_size": 64, "cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True
}  # fmt: skip
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
TIMESTEP = 500
REPEATS = 2
ITERATIONS = 20


def unet(device: torch.device, dtype: torch.dtype) -> Any:
    """With small random weights, where it has memory for them."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        empty: Any = UNet2DConditionModel(**UNET)
        made = empty.eval().requires_grad_(False).to(dtype)
    if device.type != "meta":
        made.to_empty(device=device)
        generator = torch.Generator(device).manual_seed(0)
        for each in made.parameters():
            each.uniform_(-0.02, 0.02, generator=generator)
    return made


def denoiser(network: Any, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """D as `model.load_model` makes it."""
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler(**BETAS)
    noise = Noise("epsilon", sigma_table(scheduler.alphas_cumprod))
    return Rescaled(noise.denoiser(Network(network, sd.predict, dtype), device), LATENT_STD)


def calls(device: torch.device, dtype: torch.dtype, batch: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """An evaluation through D, and the same of the network alone."""
    network = unet(device, dtype)
    D = denoiser(network, device, dtype)
    x, text = torch.full((batch, 4, 64, 64), 0.5, device=device), torch.full((batch, 77, 1024), 0.5, device=device)
    c, level = TextCondition({"text": text.to(dtype)}, {"text": text[0].to(dtype)}), torch.tensor(0.8, device=device)
    steps = torch.full((batch,), float(TIMESTEP), device=device)
    return lambda: D(x, level, c), lambda: network(x.to(dtype), steps, text.to(dtype)).sample


@torch.no_grad()
def compare(device: torch.device, dtype: torch.dtype, batch: int = 1) -> dict[str, Any]:
    """FLOPs of an evaluation; and, where something is computed, the time through D over that of a bare call."""
    through, bare = calls(device, dtype, batch)
    if device.type == "meta":
        counts = []
        for call in (through, bare):
            with FlopCounterMode(display=False) as counter:
                assert call().shape == (batch, 4, 64, 64)
            counts.append(int(counter.get_total_flops()))
        return {"flops": counts[0], "flops_bare": counts[1]}
    seconds: dict[str, list[float]] = {"through": [], "bare": []}
    for repeat in range(REPEATS + 1):
        for name, call in (("through", through), ("bare", bare)):
            taken = clocked(call, device)
            if repeat:
                seconds[name].append(taken)
    middle = {name: median(each) for name, each in seconds.items()}
    return {"seconds": seconds, "over_bare": middle["through"] / middle["bare"] - 1}


def clocked(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a GPU until it is done, or of this process's own work on a CPU that others use, too."""
    if device.type != "cuda":
        started = time.process_time()
        call()
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def pipeline(folder: Path) -> Path:
    """A whole pipeline of this size with random weights, in half precision, as a folder."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from pipelines import clip_tokenizer
    from transformers import CLIPTextConfig, CLIPTextModel

    widths = (128, 256, 512, 512)
    vae: Any = AutoencoderKL(
        block_out_channels=widths, latent_channels=4, layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    text = CLIPTextConfig(
        vocab_size=514, hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16,
        bos_token_id=512, eos_token_id=513, pad_token_id=513,
    )  # fmt: skip
    made: Any = StableDiffusionPipeline(
        unet=unet(torch.device("cpu"), torch.float16), vae=vae.half(), text_encoder=CLIPTextModel(text).half(),
        tokenizer=clip_tokenizer(), scheduler=DDIMScheduler(**BETAS, clip_sample=False), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    made.save_pretrained(folder, safe_serialization=True)
    return folder


def foreseen(cfg: Any, device: torch.device) -> float:
    """The most bytes that the run is expected to hold at once on that device: what its parts hold, and the estimate."""
    from text23d.engine.build import build_run
    from text23d.engine.estimate import needed, prepare

    state, parts = build_run(cfg, device)
    prepare(state, parts)
    held = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    return held + needed(state, parts)


def job(device: torch.device, flops: int, make: Callable[[Path], Path] = pipeline, *more: str) -> dict[str, Any]:
    """The main job on the pipeline that `make` saves, with `more` settings: what it reaches, where its time goes, and
    its peak of memory beside what was foreseen. flops: of an example in the network."""
    from diffusers import UNet2DConditionModel

    from text23d.compose import compose
    from text23d.engine.job import execute

    spent: list[float] = []
    examples: list[int] = []
    kind: Any = UNet2DConditionModel
    forward = kind.forward

    def timed(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, FakeTensor):  # a rehearsal, which the loop's time does not contain
            return forward(self, x, *args, **kwargs)
        found: list[Any] = []
        spent.append(clocked(lambda: found.append(forward(self, x, *args, **kwargs)), device))
        examples.append(len(x))
        return found[0]

    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder) / "model")
        settings = [f"device={device}", f"method.iterations={ITERATIONS}", "outputs=minimal", f"prior.path={path}"]
        cfg = compose("config", ["prompt=a corgi in a hat", "prior=sd21", *settings, *more])
        expected = foreseen(cfg, device)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        kind.forward = timed
        try:
            summary = execute(cfg, Path(folder) / "run")
        finally:
            kind.forward = forward
    seconds, most = summary["seconds"]["optimise"], torch.cuda.max_memory_allocated() if device.type == "cuda" else None
    return {
        "iterations_per_second": summary["iterations"] / seconds,
        "share_in_network": sum(spent) / seconds,
        "flops_per_second": flops * sum(examples) / sum(spent),
        "examples_in_network": sum(examples),
        "foreseen_memory_gb": expected / 1e9,
        **({} if most is None else {"peak_memory_gb": most / 1e9, "peak_over_foreseen": most / expected}),
    }


def main() -> None:
    arguments = dict(each.partition("=")[::2] for each in sys.argv[1:])
    device = torch.device(arguments.get("device", "meta"))
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    require_diffusers()
    results = compare(torch.device("meta"), dtype)
    if device.type != "meta":
        results |= compare(device, dtype)
    if device.type == "cuda":
        results |= job(device, results["flops"])
    print(json.dumps({"device": str(device), **results}, indent=2))


if __name__ == "__main__":
    main()

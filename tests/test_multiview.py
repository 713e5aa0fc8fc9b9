"""MVDream: four views that see each other, and are told their cameras."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pipelines
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny import NERF
from torch import Tensor, nn

from text23d.cameras import GROUP, SIDES, Cameras, orbit
from text23d.compose import compose
from text23d.engine.job import execute
from text23d.engine.thrift import economies
from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.prior.hub.guide import guide
from text23d.prior.hub.mvdream import sees
from text23d.prior.wrappers.batches import in_batches
from text23d.representation.views import OrthogonalCameras
from text23d.windows import Windows

PROMPT = "a corgi in a hat"
STEPS, UNIT = 4, 0.5
JOB = (
    *("prompt=a corgi in a hat", "method.iterations=2", "stages=1", "device=cpu", "outputs=minimal"),
    *("method.size.stages=[[0.0,8]]", "mesh.resolution=16", "prior=mvdream", "prior.resolution=16", *NERF),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.save_mvdream(tmp_path_factory.mktemp("hub"))


def guide_of(path: Path, **settings: Any) -> Guide:
    return guide(Request(PROMPT, None, SIDES, torch.device("cpu")), str(path), **{"view_dependent": False, **settings})


def eight() -> Cameras:
    return OrthogonalCameras().sample(2 * GROUP, torch.Generator().manual_seed(3))


def noise(count: int = 2 * GROUP) -> Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(7))


class Together(nn.Module):
    """Self-attention of four pictures by its definition: all queries, one after another, on all keys."""

    def __init__(self, own: Any) -> None:
        super().__init__()
        self.own = own

    def forward(self, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        own, found = self.own, torch.zeros_like(x)
        for first in range(0, len(x), GROUP):
            tokens = torch.cat(list(x[first : first + GROUP]))
            heads = [layer(tokens).chunk(own.heads, dim=-1) for layer in (own.to_q, own.to_k, own.to_v)]
            each = [(q @ k.T / math.sqrt(q.shape[-1])).softmax(-1) @ v for q, k, v in zip(*heads, strict=True)]
            found[first : first + GROUP] = own.to_out[0](torch.cat(each, -1)).reshape(x[:GROUP].shape)
        return found


def reference(path: Path) -> Any:
    """The same network as diffusers alone can make it: cameras as projected classes, and attention as above."""
    from diffusers import UNet2DConditionModel

    plain = UNet2DConditionModel.from_pretrained(path, subfolder="unet", local_files_only=True)
    made: Any = UNet2DConditionModel.from_config(
        {**plain.config, "class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}
    )
    cameras = load_file(path / "camera_proj" / "diffusion_pytorch_model.safetensors")
    made.load_state_dict({**plain.state_dict(), **{f"class_embedding.{name}": each for name, each in cameras.items()}})
    for block in [each for each in made.modules() if hasattr(each, "attn1")]:
        block.attn1 = Together(block.attn1)
    return made.eval()


def test_cameras_are_told_as_the_authors_tell_them() -> None:
    """Look-at matrices with Y up, and then Z up; a camera at any distance is told to be at 1."""
    cameras = Cameras(*(torch.tensor(each) for each in ([0.0, 70.0], [10.0, 25.0], [3.0, 2.8], [40.0, 38.0])))
    for found, azimuth, elevation in zip(sees(cameras)["camera"], (0.0, 70.0), (10.0, 25.0), strict=True):
        az, el = np.radians(azimuth), np.radians(elevation)
        at = np.array([np.cos(el) * np.sin(az), np.sin(el), np.cos(el) * np.cos(az)])
        right = np.cross(-at, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        pose = np.eye(4)
        pose[:3] = np.stack([right, np.cross(right, -at), at, at], axis=1)
        turned = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]) @ pose
        np.testing.assert_allclose(found, turned.flatten(), atol=1e-6)


@torch.no_grad()
def test_steps_of_ddim_make_what_the_network_by_definition_makes(model: Path) -> None:
    """With guidance, which tells the unprompted views their cameras, too."""
    from diffusers import DDIMScheduler
    from transformers import CLIPTextModel, CLIPTokenizer

    views, network, n = eight(), reference(model), noise()
    parts: Any = [kind.from_pretrained(model, subfolder=name) for name, kind in
                  (("tokenizer", CLIPTokenizer), ("text_encoder", CLIPTextModel))]  # fmt: skip
    ids = parts[0](["", PROMPT], padding="max_length", max_length=77, return_tensors="pt").input_ids
    empty, text = parts[1](ids).last_hidden_state[:, None]
    scheduler: Any = DDIMScheduler.from_pretrained(model, subfolder="scheduler")
    scheduler.set_timesteps(STEPS)
    x, camera = n, sees(views)["camera"]
    for t in scheduler.timesteps:
        away, towards = (
            network(x, t, said.expand(len(x), -1, -1), class_labels=camera).sample for said in (empty, text)
        )
        x = scheduler.step(away + 3 * (towards - away), t, x).prev_sample

    made = guide_of(model, guidance=3.0)
    c, _ = made.conditions(views)
    leap = scheduler.config.num_train_timesteps // STEPS
    steps = [*scheduler.timesteps.tolist(), scheduler.timesteps.tolist()[-1] - leap]
    abar = [float(scheduler.alphas_cumprod[t] if t >= 0 else scheduler.final_alpha_cumprod) for t in steps]
    levels = [UNIT * ((1 - share) / share) ** 0.5 for share in abar]
    found = n / abar[0] ** 0.5 * UNIT
    for sigma, lower in pairwise(levels):
        found = made.main(found, torch.tensor(sigma), c).lerp(found, lower / sigma)
    found = found / UNIT * abar[-1] ** 0.5
    assert x.std() > 0.05
    assert (found - x).square().mean().sqrt() <= 1e-5 * x.square().mean().sqrt()


@torch.no_grad()
def test_views_of_a_group_see_each_other_and_no_others(model: Path) -> None:
    made, views, x, sigma = guide_of(model), eight(), noise(), torch.tensor(1.0)
    c, _ = made.conditions(views)
    whole = made.aux(x, sigma, c)
    order = torch.tensor([2, 0, 3, 1, 4, 5, 6, 7])
    torch.testing.assert_close(made.aux(x[order], sigma, c.rows(order)), whole[order], atol=1e-5, rtol=1e-4)
    changed = made.aux(x.clone().index_fill(0, torch.tensor([1]), 0.0), sigma, c)
    apart = (changed - whole).abs().flatten(1).amax(1)
    assert (apart[:GROUP] > 1e-4).all() and (apart[GROUP:] == 0).all()
    turned, _ = made.conditions(replace(views, azimuth=views.azimuth + 90))
    assert (made.aux(x, sigma, turned) - whole).abs().max() > 1e-4, "cameras are told"


@torch.no_grad()
def test_a_picture_without_a_camera_is_seen_alone(model: Path) -> None:
    made, x = guide_of(model), noise(3)
    c = made.conditions(eight())[0].rows(slice(0, 3))
    c = replace(c, said={name: each for name, each in c.said.items() if name != "camera"})
    every = made.aux(x, torch.tensor(1.0), c)
    for which in range(3):
        row = slice(which, which + 1)
        torch.testing.assert_close(every[row], made.aux(x[row], torch.tensor(1.0), c.rows(row)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_less_memory_never_parts_a_group(model: Path) -> None:
    made, x, sigma = guide_of(model), noise(), torch.tensor(1.0)
    c, _ = made.conditions(eight())
    assert [each.batch for each in economies(12, False, made.group)] == [GROUP]
    assert [each.batch for each in economies(4 * GROUP, False, made.group)] == [2 * GROUP, GROUP]
    (least,) = economies(len(x), False, made.group)
    assert least.batch == GROUP
    few = in_batches(made, least.batch)
    torch.testing.assert_close(few.main(x, sigma, c), made.main(x, sigma, c), atol=1e-5, rtol=1e-4)


def test_orthogonal_cameras_share_all_but_a_quarter_of_a_turn() -> None:
    cameras = OrthogonalCameras(elevation=(0.0, 30.0)).sample(12, torch.Generator().manual_seed(0))
    groups = [getattr(cameras, name).reshape(3, GROUP) for name in ("azimuth", "elevation", "distance", "fov")]
    turns = (groups[0] - groups[0][:, :1]) % 360
    torch.testing.assert_close(turns, torch.tensor([0.0, 90.0, 180.0, 270.0]).expand(3, -1), atol=1e-4, rtol=0)
    assert all((each == each[:, :1]).all() for each in groups[1:])
    assert groups[1].min() >= 0 and groups[1].max() <= 30 and len(set(groups[1][:, 0].tolist())) == 3
    many = OrthogonalCameras().sample(GROUP * 90).azimuth
    assert len(set((many // 3).tolist())) == 120, "groups are spread over a quarter of a turn, and so views over all"


def test_the_main_job_runs(model: Path, tmp_path: Path) -> None:
    summary = execute(compose("config", [*JOB, f"prior.path={model}"]), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert summary["iterations"] == 2 and all(0 < line["loss"] < math.inf for line in lines)
    assert json.loads((tmp_path / "summary.json").read_text())["model"]["pipeline"] == "MVDreamPipeline"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["method.views=6"], r"method.views=6: .*4 views together: expected a multiple of 4"),
        (["method.views=3", "views=around"], r"method.views=3: .*expected a multiple of 4"),
    ],
)
def test_groups_that_are_not_whole(model: Path, tmp_path: Path, settings: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        execute(compose("config", [*JOB, f"prior.path={model}", *settings]), tmp_path)


def test_what_does_not_serve_is_told_in_one_line(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"method.views=6: expected a multiple of 4"):
        OrthogonalCameras().sample(6)
    with pytest.raises(UserError, match="told cameras: expected an object"):
        sees(Windows.untold(4, 2))
    made = guide_of(model)
    c, _ = made.conditions(orbit(2))
    with pytest.raises(UserError, match="sees 4 views together, and was shown 2"):
        made.aux(noise(2), torch.tensor(1.0), c)
    (tmp_path / "image_encoder").mkdir()
    for name in ("adapter.safetensors", "image_encoder/config.json", "image_encoder/model.safetensors"):
        (tmp_path / name).write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="takes none here"):
        guide_of(model, image=str(tmp_path / "x.png"), ip_adapter=str(tmp_path / "adapter.safetensors"))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda part: (part / "diffusion_pytorch_model.safetensors").unlink(), "no .safetensors weights"),
        (lambda part: pipelines.cut(part / "diffusion_pytorch_model.safetensors"), "cut short"),
        (lambda part: (part / "config.json").write_text('{"post_act_fn": "silu"}') and None, "post_act_fn=silu"),
        (
            lambda part: pipelines.widen(part / "diffusion_pytorch_model.safetensors"),
            "as wide as that of another network",
        ),
    ],
)
def test_a_damaged_embedding(tmp_path: Path, harm: Any, told: str) -> None:
    model = pipelines.save_mvdream(tmp_path)
    harm(model / "camera_proj")
    with pytest.raises(UserError, match=f"camera_proj.*{told}"):
        guide_of(model)

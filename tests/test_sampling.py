"""Independent pictures of the prior beside the world: the errors in closed form, and the verb from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from text23d.worlds.objects.dataset import Recipe, render_object

from text23d import sampling
from text23d.errors import UserError
from text23d.paths import conf_dir
from text23d.prior.builtin import prior as builtin
from text23d.studies.evaluation import law
from text23d.studies.evaluation.figures import kid
from text23d.worlds.objects.caption import tokenize
from text23d.worlds.objects.views import cameras_from


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("sampling", list(overrides))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Of as many values as groups exactly; of more, of the groups' means."""
    values = torch.randn(law.GROUPS * 3, generator=torch.Generator().manual_seed(0)).double()
    value, error = law.jackknife(lambda stay: values[stay].mean().item(), len(values))
    means = values.reshape(3, law.GROUPS).mean(0)
    assert value == pytest.approx(values.mean().item())
    assert error == pytest.approx(means.std().item() / law.GROUPS**0.5, rel=1e-5)


def test_distances_find_who_is_far() -> None:
    """From the world's own law no distance but its error; of a shifted one KID's own value, and a ratio of the two."""
    draw = torch.Generator().manual_seed(1)
    world, near = (torch.randn(count, 8, generator=draw) for count in (2048, 1024))
    found = law.distances({"far": near + 0.5, "near": near, "same": near + 0.5}, world)
    assert abs(found["near"]["kid"]) < 4 * found["near"]["kid_error"] < 0.1
    assert found["far"]["kid"] == kid(near + 0.5, world) > 10 * found["far"]["kid_error"] > 0
    assert "ratio" not in found["far"] and abs(found["near"]["ratio"]) < 0.1
    assert found["same"]["ratio"] == 1 and found["same"]["ratio_error"] == 0


def test_pictures_of_the_world_are_those_of_the_training_set() -> None:
    """Objects by number, whatever the batch, with their captions and cameras."""
    captions, pictures, rows = law.of_the_world(range(3, 6), 7, 16)
    _, shown, row = render_object(4, Recipe(1, 7, 16))
    assert pictures.shape == (3, 4, 16, 16) and len(captions) == 3
    torch.testing.assert_close(pictures[1:2], law.pictures(shown))
    torch.testing.assert_close(rows[1:2], torch.from_numpy(row))


def test_each_picture_is_told_its_own_caption_and_camera() -> None:
    prior = builtin.load(None, torch.device("cpu"), torch.float32)
    captions, _, rows = law.of_the_world(range(4), 7, 16)
    c = law.told(prior, captions, rows)
    for index, caption in enumerate(captions):
        own = prior.condition(tokenize(caption), cameras_from(rows[index : index + 1].numpy()))
        torch.testing.assert_close(c.text[index : index + 1], own.text)
        torch.testing.assert_close(c.camera[index : index + 1], own.camera)


@pytest.mark.parametrize(("guidance", "costs"), [(1, [5, 6]), (3, [10, 9])])
def test_evaluations_are_counted(guidance: float, costs: list[int]) -> None:
    """Of the network, by counting its calls."""
    prior = builtin.load(None, torch.device("cpu"), torch.float32)
    captions, _, rows = law.of_the_world(range(1), 7, 16)
    seen: list[int] = []
    prior.denoiser.network.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    kinds: list[dict[str, Any]] = [{"levels": 3}, {"levels": 3, "h": 0.5, "leak": 1.0}]
    for kind, cost in zip(kinds, costs, strict=True):
        seen.clear()
        x = sampling.draw(prior, captions, rows, 0, guidance, 0, kind)
        assert x.shape == (1, 4, 64, 64) and sum(seen) == cost == sampling.evaluations(kind, guidance)


def test_the_verb_draws_compares_and_goes_on(
    tmp_path: Path, tiny_prior: Path, tiny_judge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = settings(
        f"folder={tmp_path}",
        f"weights={tiny_prior}",
        f"judge={tiny_judge}",
        "device=cpu",
        "pictures=32",
        "references=64",
        "samplers={heun:{levels:2},algorithm1:{levels:2,h:0.6,leak:1}}",
    )
    sampling.run(cfg)
    said = capsys.readouterr().out
    assert said == (tmp_path / "results.md").read_text() and "| algorithm1 | 2 | 0.6 | 1 | 4 |" in said
    rows = json.loads((tmp_path / "results.json").read_text())["samplers"]
    assert rows["algorithm1"]["ratio"] == pytest.approx(rows["algorithm1"]["kid"] / rows["heun"]["kid"])
    with Image.open(tmp_path / "samples.png") as image:
        assert image.width >= 16 * 64
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(made) == 3
    sampling.run(cfg)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == made
    assert capsys.readouterr().out == said
    cfg.guidance = 2
    with pytest.raises(UserError, match="begun with another guidance"):
        sampling.run(cfg)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pictures=40", "pictures=40: expected a multiple of 16"),
        ("references=16", "references=16"),
        ("pictures=4096 references=2048", "expected a multiple of pictures=4096"),
        ("guidance=-1", "guidance=-1"),
        ("seed=-1", "seed=-1"),
        ("+samplers.bad={steps:3}", "samplers.bad"),
        ("samplers.heun.levels=1", "at least 2"),
    ],
)
def test_mistakes(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        sampling.check(settings(*override.split()))

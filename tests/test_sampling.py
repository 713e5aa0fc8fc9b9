"""Independent pictures of the prior beside the world: the errors in closed form, and the verb from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from text23d import sampling
from text23d.errors import UserError
from text23d.paths import conf_dir
from text23d.prior.builtin import prior as builtin
from text23d.settings import read
from text23d.studies.figures import kid
from text23d.studies.sampling import independent
from text23d.studies.sampling.study import Sampler, SamplerStudy
from text23d.worlds.objects.caption import tokenize
from text23d.worlds.objects.views import cameras_from
from text23d.worlds.objects.world import Objects


def settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("sampling", list(overrides))


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Of as many values as groups exactly; of more, of the groups' means."""
    values = torch.randn(independent.GROUPS * 3, generator=torch.Generator().manual_seed(0)).double()
    value, error = independent.jackknife(lambda stay: values[stay].mean().item(), len(values))
    means = values.reshape(3, independent.GROUPS).mean(0)
    assert value == pytest.approx(values.mean().item())
    assert error == pytest.approx(means.std().item() / independent.GROUPS**0.5, rel=1e-5)


def test_distances_find_who_is_far() -> None:
    """From the world itself no distance but its error; of a shifted one KID's own value, and a ratio of the two."""
    draw = torch.Generator().manual_seed(1)
    world, near = (torch.randn(count, 8, generator=draw) for count in (2048, 1024))
    found = independent.distances({"far": near + 0.5, "near": near, "same": near + 0.5}, world)
    assert abs(found["near"]["kid"]) < 4 * found["near"]["kid_error"] < 0.1
    assert found["far"]["kid"] == kid(near + 0.5, world) > 10 * found["far"]["kid_error"] > 0
    assert "ratio" not in found["far"] and abs(found["near"]["ratio"]) < 0.1
    assert found["same"]["ratio"] == 1 and found["same"]["ratio_error"] == 0


def test_pictures_of_the_world_are_those_of_the_training_set() -> None:
    """Objects by number, whatever the batch, with their captions and cameras."""
    captions, pictures, rows = independent.world_samples(range(3, 6), 7, 16)
    example = Objects(16).example(7, 4, 1)
    assert pictures.shape == (3, 4, 16, 16) and len(captions) == 3
    torch.testing.assert_close(pictures[1:2], independent.pictures(example.arrays["images"]))
    torch.testing.assert_close(rows[1:2], torch.from_numpy(example.arrays["camera"]))


def test_each_picture_is_conditioned_on_its_own_caption_and_camera() -> None:
    prior = builtin.load(None, torch.device("cpu"), torch.float32)
    captions, _, rows = independent.world_samples(range(4), 7, 16)
    c = independent.condition(prior, captions, rows)
    for index, caption in enumerate(captions):
        own = prior.condition(tokenize(caption), cameras_from(rows[index : index + 1].numpy()))
        torch.testing.assert_close(c.text[index : index + 1], own.text)
        torch.testing.assert_close(c.views[index : index + 1], own.views)


@pytest.mark.parametrize(("guidance", "costs"), [(1, [5, 6]), (3, [10, 9])])
def test_evaluations_are_counted(guidance: float, costs: list[int]) -> None:
    """Of the network, by counting its calls."""
    prior = builtin.load(None, torch.device("cpu"), torch.float32)
    captions, _, rows = independent.world_samples(range(1), 7, 16)
    c, noise, calls = independent.condition(prior, captions, rows), torch.randn(1, 4, 64, 64), list[int]()
    prior.denoiser.network.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    for sampler, cost in zip((Sampler(3), Sampler(3, 0.5, 1.0)), costs, strict=True):
        calls.clear()
        x = sampler.draw(prior, c, noise, guidance, 0)
        assert x.shape == (1, 4, 64, 64) and sum(calls) == cost == sampler.evaluations(guidance)


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
    with pytest.raises(UserError, match="holds results of another guidance"):
        sampling.run(cfg)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pictures=40", "pictures=40: expected a multiple of 16"),
        ("pictures=16", "pictures=16: expected a whole number, at least 32"),
        ("references=nan", "references=nan: expected a whole number, at least 32"),
        ("pictures=4096 references=2048", "references=2048: expected a multiple of pictures=4096"),
        ("guidance=-1", "guidance=-1: expected a number at least 0"),
        ("guidance=inf", "guidance=inf: expected a number at least 0"),
        ("seed=-1", "seed=-1: expected a whole number"),
        ("samplers=null", "samplers=null: expected samplers by name, as"),
        ("samplers=5", "samplers=5: expected samplers by name, as"),
        ("samplers.heun=null", r"samplers\.heun=null: expected"),
        ("+samplers.bad={steps:3}", r"no setting named samplers\.bad\.steps: expected levels, h, leak"),
        ("+samplers.bad={h:0.5}", r"no samplers\.bad\.levels given"),
        ("+samplers.bad={levels:3,h:0.5}", r"samplers\.bad=.*: expected both h and leak, or neither"),
        ("+samplers.bad={levels:3,leak:1}", r"samplers\.bad=.*: expected both h and leak, or neither"),
        ("+samplers.Bad={levels:3}", r"samplers\.Bad: expected a name in small letters"),
        ("+samplers.the-world={levels:3}", r"samplers\.the-world: expected a name in small letters, other than"),
        ("samplers.heun.levels=1", r"samplers\.heun\.levels=1: expected a whole number, 2 to 10000"),
        ("samplers.algorithm1.h=2", r"samplers\.algorithm1\.h=2: expected a number above 0 and below 2"),
        ("folder=null", "folder=null: expected the name of a file or folder"),
    ],
)
def test_mistakes(override: str, said: str) -> None:
    cfg = OmegaConf.to_container(settings(*override.split()))
    with pytest.raises(UserError, match=said) as raised:
        read(SamplerStudy, cast(dict[str, Any], cfg))
    assert "\n" not in str(raised.value)

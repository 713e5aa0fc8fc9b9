"""The study of what is longer than a prior's examples: its figures against closed forms, and its tables of runs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from text23d import audio
from text23d.compose import compose
from text23d.contracts import Sampler
from text23d.errors import UserError
from text23d.files import save_tensors
from text23d.judge import network
from text23d.judge.network import Classifier, Judge, Opinion
from text23d.paths import weights_of
from text23d.rng import generator
from text23d.settings import build, read
from text23d.studies.comparison.budget import Cost
from text23d.studies.launcher import Job, Outcome
from text23d.studies.strips import growth, reference
from text23d.studies.strips import study as strips
from text23d.studies.strips.figures import coherence, edge_ratio, kid_ratio, rightness, seam_rank, step_ratio, steps
from text23d.studies.strips.made import Made
from text23d.studies.strips.media import MEDIA, click_ratio, tempo_error
from text23d.studies.strips.suite import StripStudy

SHORT = {
    "panorama": (["a town at night"], [["a town", "the sea"]], "representation.width=256"),
    "video": (["a red car turning left"], [["a red car", "a blue duck"]], "representation.frames=24"),
    "audio": (["a slow bell melody"], [["a bell melody", "a drum beat"]], "representation.seconds=4"),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def judge(medium: str) -> Judge:
    """One that has learned nothing."""
    world = MEDIA[medium].world
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small = Classifier(world.heads, world.channels, world.shape, (8, 16))
    return Judge(small.eval().requires_grad_(False))


def left(folder: Path, overrides: Sequence[str], values: torch.Tensor | None = None) -> None:
    """What a run leaves that the study reads; noise, if nothing is given."""
    folder.mkdir(parents=True, exist_ok=True)
    cfg = compose("config", list(overrides))
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    name = cfg["task"]["_target_"].split(".")[2]
    shape = (audio.BINS if name == "audio" else 4 if name == "video" else 3, *cfg["views"]["whole"])
    values = noise(*shape, seed=cfg["seed"]).clamp(-1, 1) if values is None else values
    save_tensors(folder / f"{name}.safetensors", {"values": values}, name, {})
    summary = {"iterations": 2, "seed": cfg["seed"], "peak_memory_mb": 300.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    line = json.dumps({"iteration": 1, "size": 64, "seconds": 0.5, "nfe": 4})
    (folder / "metrics.jsonl").write_text(f"{line}\n{line}\n")


def made(folder: Path, *overrides: str, values: torch.Tensor | None = None) -> Made:
    prompt = next(each.partition("=")[2] for each in overrides if each.startswith("prompt="))
    left(folder, overrides, values)
    return Made.read([prompt], folder)


# Figures


def test_steps_show_where_windows_begin() -> None:
    """A zigzag whose steps are 1, and 3 where windows of 8 begin; around a ring one of them is the seam."""
    sizes = torch.ones(32)
    sizes[::8] = 3
    signs = 1 - 2.0 * (torch.arange(32) % 2)
    x = (signs * sizes).cumsum(0).expand(2, 4, 32)
    assert steps(x, 1, False).tolist() == sizes[1:].tolist() and len(steps(x, 1, True)) == 32
    assert torch.equal(steps(x.mT, 0, False), sizes[1:]), "along any axis"
    assert edge_ratio(steps(x, 1, False), torch.tensor([7, 15, 23])) == 3
    assert edge_ratio(steps(torch.arange(32.0).expand(1, 4, 32), 1, False), torch.tensor([7])) == 1
    ring = torch.tensor([0.0, 1, 0, 2, 0, 1, 0, 1]).expand(1, 1, 8)  # steps 1 over the seam, 1 1 2 2 1 1 1
    assert seam_rank(ring, 1) == 2 / 8


@pytest.mark.parametrize("wrap", [False, True])
def test_edges_are_those_of_the_last_iterations_windows(wrap: bool, tmp_path: Path) -> None:
    """On a grid where that says; else where the run itself drew them."""
    said = ["prompt=a red car", "representation=video", "representation.frames=24", f"representation.wrap={wrap}"]
    grid = made(tmp_path / "grid", *said, "method=multidiffusion", "views=grid", "views.stride=[8,32,32]")
    assert grid.edges().tolist() == ([0, 8, 16] if wrap else [8, 16])
    drawn = made(tmp_path / "drawn", *said, "seed=3")
    sampler: Any = build(drawn.cfg["views"], "views", Sampler)
    start = sampler.sample(6, generator(3, 0, 1, "cameras")).start[:, 0].tolist()
    places = {each % 24 if wrap else each for begin in start for each in (begin, begin + 8)}
    assert set(drawn.edges().tolist()) == (places if wrap else places - {0, 24})
    values = torch.zeros(4, 24, 32, 32)
    values[:, 8:16] = 1.0
    cut = made(tmp_path / "cut", *said, "views=grid", "views.stride=[8,32,32]", values=values + 0.01 * noise(24, 1, 1))
    assert step_ratio(cut) > (10 if wrap else 30)


def test_neighbours_that_look_alike_cohere() -> None:
    world = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    alike = Opinion({}, torch.tensor([[3.0, 0.0], [5.0, 0.0], [0.1, 0.0]]))
    turning = Opinion({}, torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))
    back = Opinion({}, torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]))
    assert coherence([alike], world, True) == pytest.approx(1)
    assert coherence([turning], world, True) == pytest.approx(0, abs=1e-6)
    assert coherence([alike, turning], world, True) == pytest.approx(0.5)
    assert coherence([back], world, True) == pytest.approx(-1 / 3) and coherence([back], world, False) == 0


@pytest.mark.parametrize("medium", MEDIA)
def test_samples_of_the_prior_are_guided_as_the_runs(medium: str) -> None:
    cfg = compose("config", [f"representation={medium}", "prompt=''"])
    assert MEDIA[medium].guidance == cfg["prior"]["guidance"]


@pytest.mark.parametrize("medium", MEDIA)
def test_distances_are_measured_in_those_of_the_priors_own_samples(medium: str) -> None:
    kind = MEDIA[medium].world
    world, samples = noise(2, 12, kind.channels, *kind.shape).unbind(0)
    same = kid_ratio(judge(medium), samples, samples, world)
    assert same["kid_ratio"] == 1 and same["kid"] == same["kid_prior"]
    assert kid_ratio(judge(medium), samples.abs() + 1, samples, world)["kid"] > same["kid"] + 0.01


def test_a_window_is_right_where_all_that_is_asked_for_is(tmp_path: Path) -> None:
    video = made(tmp_path, "prompt=a red car hopping", "representation=video", "representation.frames=24")
    (found,) = rightness(judge("video"), MEDIA["video"].world, video)
    assert found.keys() == {"kind", "colour", "motion", "asked"} and len(found["kind"]) == 5
    assert torch.equal(found["asked"], found["kind"] & found["colour"] & found["motion"])


@pytest.mark.parametrize(
    ("medium", "prompt", "other"),
    [
        ("panorama", "the sea at night", "the sea at noon"),
        ("video", "a red car standing still", "a blue car standing still"),
        ("audio", "a", "b"),
    ],
)
def test_examples_of_the_world_are_of_the_prompt(medium: str, prompt: str, other: str) -> None:
    if medium == "audio":
        prompt, other = "a slow bell melody", "a fast drum beat"
    one, two = (MEDIA[medium].examples(each, 10) for each in (prompt, other))
    assert one.shape == (10, MEDIA[medium].world.channels, *MEDIA[medium].world.shape)
    assert torch.equal(one, MEDIA[medium].examples(prompt, 10)) and not torch.equal(one[0], one[8])
    if medium == "panorama":
        assert two.mean() > one.mean() + 0.3, "noon is brighter"
    elif medium == "video":
        assert one[:, 0].mean() > one[:, 2].mean() and two[:, 0].mean() < two[:, 2].mean(), "red, and blue"
    else:
        half = audio.BINS // 2
        assert (
            two[:, half:].square().mean() / two.square().mean()
            > 5 * one[:, half:].square().mean() / one.square().mean()
        )
    world = MEDIA[medium].world
    score = network.load(weights_of("judge", world.name)).score(one, world.labels(world.read(prompt)))
    assert min(value for name, value in score.items() if name.endswith("accuracy")) > 0.85, "the shipped judge agrees"


@pytest.mark.parametrize("wrap", [False, True])
def test_clicks_at_window_edges_are_heard(wrap: bool, tmp_path: Path) -> None:
    """A tone that breaks off where windows begin, and one that does not."""
    rate, count = audio.RATE, (512 if wrap else 511) * audio.BINS  # 512 frames
    said = ["prompt=a flute note", "representation=audio", f"representation.seconds={count / rate}"]
    said += [f"representation.wrap={wrap}", "method=multidiffusion", "views=grid", "views.stride=[128]"]
    whole = torch.sin(2 * math.pi * 250 * torch.arange(count) / rate)  # whole turns in a frame of 64 samples: twice
    for clicks in (False, True):
        wave = 0.5 * whole + 1e-3 * noise(count)
        for edge in range(128, 512, 128) if clicks else ():
            wave[(edge - 1 + wrap) * 64 + 32 :] *= -1  # inside of what the frames of both windows hear
        found = made(tmp_path / str(clicks), *said, values=audio.from_wave(wave, wrap))
        assert found.edges().tolist() == ([0, 128, 256, 384] if wrap else [128, 256, 384])
        ratio = click_ratio(audio.to_wave(found.whole, wrap).numpy(), found)
        assert ratio > 20 if clicks else 0.5 < ratio < 2


def test_a_tempo_that_is_not_heard_is_wholly_wrong() -> None:
    assert tempo_error({"notes_per_second": 4.5, "asked_notes_per_second": 5.0}) == pytest.approx(0.1)
    assert tempo_error({"notes_per_second": None, "asked_notes_per_second": 5.0}) == 1


# The study


def settings(medium: str, folder: Path, **more: Any) -> StripStudy:
    cfg = compose("strips", [f"medium={medium}", f"folder={folder}"])
    prompts, pairs, short = SHORT[medium]
    cfg["medium"] |= {"prompts": prompts, "pairs": pairs}
    return read(StripStudy, {**cfg, "settings": [short], "windows": 4, "growth": [1, 2], **more})


def finished(jobs: list[Job], *_: Any) -> list[Outcome]:
    """Runs as they would have been made; one has failed."""
    outcomes = []
    for index, job in enumerate(jobs):
        if "multidiffusion" in str(job.folder) and not index:
            outcomes.append(Outcome(job, "it broke"))
            continue
        left(job.folder, job.overrides)
        outcomes.append(Outcome(job))
    return outcomes


@pytest.mark.parametrize("medium", MEDIA)
def test_the_study_makes_tables_and_a_picture(medium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All variants of every medium, down to the settings of their runs; only what the runs make is invented."""
    for module in (strips, growth):
        monkeypatch.setattr(module, "make_missing", finished)
    monkeypatch.setattr(strips.Calibration, "costs", lambda _, all_: ({name: Cost(0.5, 40) for name in all_}, {}))
    monkeypatch.setattr(strips.network, "load", lambda _: judge(medium))
    monkeypatch.setattr(
        reference, "drawn", lambda *_: noise(4, MEDIA[medium].world.channels, *MEDIA[medium].world.shape)
    )
    results = strips.compare_strips(settings(medium, tmp_path), lambda _: None)
    rows = results["figures"]
    assert rows.keys() == {"ours", "ours-gradient", "syncdiffusion", "stochsync", "queue", "independent"}
    assert results["failed"] == ["multidiffusion: it broke"]
    views = {"panorama": 4, "video": 6, "audio": 8}[medium]
    assert rows["ours"]["evaluations"] == 2 * views * 4 and rows["ours"]["seconds"] == 1 and rows["ours"]["runs"] == 2
    own = {"panorama": "seam", "video": "same", "audio": "clicks"}[medium]
    assert all({own, "asked", "regions", "coherence", "kid_ratio"} <= row.keys() for row in rows.values())
    assert [row["times"] for row in results["growth"]] == [1, 2] and results["growth"][1]["seconds"] == 0.5
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    told = (tmp_path / "results.md").read_text()
    assert "failed: multidiffusion: it broke" in told and "| 2 | " in told and "regions right" in told
    with open(tmp_path / "results.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["variant"] for line in lines] == list(rows)
    assert float(lines[0]["coherence"]) == rows["ours"]["coherence"]
    assert np.asarray(Image.open(tmp_path / "results.png")).std() > 10
    with pytest.raises(UserError, match="holds results of another settings"):
        strips.compare_strips(settings(medium, tmp_path, settings=[]), lambda _: None)


def test_results_of_other_weights_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "drawn", lambda *_: noise(2, 4, 8, 32, 32))
    first = reference.references(MEDIA["video"], ["a red car"], 2, tmp_path / "reference")
    again = reference.references(MEDIA["video"], ["a red car"], 2, tmp_path / "reference")
    assert torch.equal(first["a red car"][0], again["a red car"][0])
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    monkeypatch.setattr(reference, "weights_of", lambda *_: other)
    with pytest.raises(UserError, match="holds results of another weights: remove it"):
        reference.references(MEDIA["video"], ["a red car"], 2, tmp_path / "reference")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"prompts": ["a spaceship"]}, "does not know the word 'spaceship'"),
        ({"variants": {"Ours!": []}}, "medium.variants.Ours!: expected a name in small letters"),
        ({"variants": {"ours": ["seed=3"]}}, "medium.variants.ours has seed=3: the study itself chooses seed"),
    ],
)
def test_mistakes_are_told_first(more: dict[str, Any], problem: str, tmp_path: Path) -> None:
    cfg = compose("strips", [f"folder={tmp_path}"])
    with pytest.raises(UserError, match=problem):
        strips.compare_strips(read(StripStudy, {**cfg, "medium": {**cfg["medium"], **more}}), lambda _: None)


# Length


@pytest.mark.parametrize("medium", MEDIA)
def test_work_and_memory_are_linear_in_length(medium: str) -> None:
    """Rendering and replacing what all windows of an iteration see, to 16 times the length: about as many operations
    on tensors as ever, and as much memory for each window, within 10 %. Seconds are what `text23d strips` measures."""
    suite = compose("strips", [f"medium={medium}"])["medium"]
    name, usual = suite["length"]
    operations, bytes_ = [], []
    for times in (1, 4, 16):
        cfg = compose("config", ["prompt=x", *suite["settings"], f"{name}={usual * times}"])
        phi: Any = build(cfg["representation"], "representation", torch.nn.Module)
        views = build(cfg["views"], "views", Sampler).sample(cfg["method"]["views"], torch.Generator().manual_seed(0))
        shape = MEDIA[medium].world.shape
        with torch.no_grad(), torch.profiler.profile(profile_memory=True) as watched:
            phi.replace(views, phi.render(views, shape))
        seen = watched.key_averages()
        operations.append(sum(each.count for each in seen))
        bytes_.append(sum(max(0, each.self_cpu_memory_usage) for each in seen) / (len(views) * math.prod(shape)))
    assert 0.9 < bytes_[1] / bytes_[0] < 1.1 and 0.9 < bytes_[2] / bytes_[0] < 1.1
    assert max(operations) <= 1.2 * min(operations)

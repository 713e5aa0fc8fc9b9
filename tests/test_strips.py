"""The study of panoramas: its figures against closed forms, and its tables of runs that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from text23d.compose import compose
from text23d.contracts import Head
from text23d.errors import UserError
from text23d.files import save_tensors
from text23d.judge.network import Classifier, Judge, Opinion
from text23d.settings import read
from text23d.studies.comparison.budget import Cost
from text23d.studies.launcher import Job, Outcome
from text23d.studies.strips import study as strips
from text23d.studies.strips.figures import coherence, edge_ratio, kid_ratio, neighbours, seam_rank, steps
from text23d.studies.strips.windows import level, world_windows
from text23d.worlds.landscapes.caption import Caption
from text23d.worlds.landscapes.world import Landscapes


def test_edges_show_where_windows_begin() -> None:
    """A zigzag whose steps are 1, and 3 where windows of 8 begin; around a ring one of them is the seam."""
    sizes = torch.ones(32)
    sizes[7::8] = 3
    signs = 1 - 2.0 * (torch.arange(32) % 2)
    x = torch.cat([torch.zeros(1), (signs * sizes).cumsum(0)[:-1]]).expand(2, 4, 32)
    assert steps(x, False).tolist() == sizes[:-1].tolist() and len(steps(x, True)) == 32
    assert edge_ratio(x, 8, False) == 3 and edge_ratio(torch.arange(32.0).expand(1, 4, 32), 8, False) == 1
    ring = torch.tensor([0.0, 1, 0, 2, 0, 1, 0, 1]).expand(1, 1, 8)  # steps 1 1 2 2 1 1 1, and 1 over the seam
    assert seam_rank(ring) == 2 / 8
    assert neighbours(512, 64) == [*range(0, 512, 64)] and neighbours(100, 64) == [0]


def test_neighbours_that_look_alike_cohere() -> None:
    world = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    alike = Opinion({}, torch.tensor([[3.0, 0.0], [5.0, 0.0], [0.1, 0.0]]))
    turning = Opinion({}, torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]))
    assert coherence([alike], world) == pytest.approx(1) and coherence([turning], world) == pytest.approx(0, abs=1e-6)
    assert coherence([alike, turning], world) == pytest.approx(0.5)


def judge() -> Judge:
    torch.manual_seed(0)
    heads = [Head("scene", "global", ("town", "sea")), Head("time", "global", ("day", "night"))]
    return Judge(Classifier(heads, 3, (64, 64)).eval().requires_grad_(False))


def test_distances_are_measured_in_those_of_the_priors_own_samples() -> None:
    world, samples = torch.randn(2, 24, 3, 64, 64, generator=torch.Generator().manual_seed(0)).unbind(0)
    same = kid_ratio(judge(), samples, samples, world)
    assert same["kid_ratio"] == 1 and same["kid"] == same["kid_prior"]
    assert kid_ratio(judge(), 0.2 * samples, samples, world)["kid"] > same["kid"]


def test_windows_of_the_world_are_of_the_caption() -> None:
    world = Landscapes(16)
    day, night = (world_windows(world, Caption("sea", time, "clear"), 10) for time in ("day", "night"))
    assert day.shape == night.shape == (10, 3, 16, 16) and day.mean() > night.mean() + 0.3
    assert torch.equal(day, world_windows(world, Caption("sea", "day", "clear"), 10)) and day.min() >= -1
    assert not torch.equal(world_windows(world, Caption("sea"), 10)[0], world_windows(world, Caption("sea"), 10)[8])
    assert level(9).azimuth.tolist() == [-157.5, -112.5, -67.5, -22.5, 22.5, 67.5, 112.5, 157.5, -157.5]


def finished(jobs: list[Job], *_: Any) -> list[Outcome]:
    """Runs as they would have been made; one has failed."""
    outcomes = []
    for index, job in enumerate(jobs):
        if "multidiffusion" in str(job.folder) and not index:
            outcomes.append(Outcome(job, "it broke"))
            continue
        values = torch.randn(3, 64, 512, generator=torch.Generator().manual_seed(index)).clamp(-1, 1)
        save_tensors(job.folder / "panorama.safetensors", {"values": values}, "panorama", {})
        scores = {"scene_accuracy": 0.75, "time_accuracy": 0.5}
        summary = {"score": scores, "iterations": 2}
        (job.folder / "summary.json").write_text(json.dumps(summary))
        line = json.dumps({"iteration": 1, "size": 64, "seconds": 0.5, "nfe": 4})
        (job.folder / "metrics.jsonl").write_text(f"{line}\n{line}\n")
        (job.folder / "config.yaml").write_text("method: {views: 12}\nrepresentation: {}\n")
        outcomes.append(Outcome(job))
    return outcomes


def settings(folder: Path, **more: Any) -> strips.StripStudy:
    cfg = compose("strips", [f"folder={folder}"])
    few = {"prompts": ["a town at night"], "pairs": [["a town", "the sea"]], "windows": 8}
    return read(strips.StripStudy, {**cfg, **few, **more})


def test_the_study_makes_a_table_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "make_missing", finished)
    monkeypatch.setattr(strips.Calibration, "costs", lambda _, all_: ({name: Cost(0.5, 40) for name in all_}, {}))
    monkeypatch.setattr(strips.network, "load", lambda _: judge())
    windows = torch.randn(2, 8, 3, 64, 64, generator=torch.Generator().manual_seed(9)).unbind(0)
    monkeypatch.setattr(strips, "references", lambda study, _: dict.fromkeys(study.prompts, windows))
    results = strips.compare_strips(settings(tmp_path), lambda _: None)
    rows = results["figures"]
    assert rows.keys() == {"ours", "ours-gradient", "syncdiffusion", "stochsync", "independent"}
    assert results["failed"] == ["multidiffusion: it broke"]
    assert rows["ours"]["scene"] == rows["ours"]["regions"] == 0.75 and rows["ours"]["seconds"] == 1
    assert rows["ours"]["evaluations"] == 2 * 12 * 4
    assert rows["ours"]["runs"] == 2 and 0.8 < rows["ours"]["edges"] < 1.2
    table = (tmp_path / "results.md").read_text()
    assert "| ours | 0.750 | 0.500 | 0.750 |" in table and "failed: multidiffusion: it broke" in table
    assert (tmp_path / "panoramas.png").is_file() and json.loads((tmp_path / "results.json").read_text()) == results
    with pytest.raises(UserError, match="holds results of another settings"):
        strips.compare_strips(settings(tmp_path, evaluations=50.0), lambda _: None)


def test_prompts_that_cannot_be_meant_are_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips.network, "load", lambda _: judge())
    with pytest.raises(UserError, match="does not know the word 'spaceship'"):
        strips.compare_strips(settings(tmp_path, prompts=["a spaceship"]), lambda _: None)

"""The comparison: its figures against closed forms, its budgets, and the verb from end to end on tiny runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from text23d import cli, compare
from text23d.compose import compose as compose_plain
from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.paths import conf_dir
from text23d.settings import read
from text23d.spaces import to_picture
from text23d.studies import runs
from text23d.studies.comparison.appearance import appearance
from text23d.studies.comparison.budget import Calibration, Cost, affordable, read_cost
from text23d.studies.comparison.figures import mesh_means, run_means
from text23d.studies.comparison.study import Comparison
from text23d.studies.comparison.table import cell
from text23d.studies.launcher import Job, Outcome

# Figures


def painted(colours: list[tuple[float, float, float]], alpha: float = 1.0) -> Tensor:
    """One picture [1, 4, 8, 8] whose left half, of this coverage, is striped evenly in these colours; the right half
    is empty."""
    colour, cover = torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)
    for row in range(8):
        colour[:, row, :4] = torch.tensor(colours[row % len(colours)])[:, None] * alpha
    cover[:, :, :4] = alpha
    return to_picture(colour, cover)[None]


@pytest.mark.parametrize(
    ("colours", "saturation", "contrast"),
    [
        ([(1.0, 0.0, 0.0)], 1.0, 0.0),
        ([(0.5, 0.5, 0.5)], 0.0, 0.0),
        ([(0.0, 0.0, 0.0)], 0.0, 0.0),
        ([(0.8, 0.4, 0.2)], 0.75, 0.0),
        ([(0.2, 0.2, 0.2), (0.8, 0.8, 0.8)], 0.0, 0.3),  # half the distance of two
        ([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0)], 1.0, (0.7152 - 0.2126) / 2),
    ],
)
@pytest.mark.parametrize("alpha", [1.0, 0.75])
def test_appearance_in_closed_form(
    colours: list[tuple[float, float, float]], saturation: float, contrast: float, alpha: float
) -> None:
    """Of what is seen, whatever its coverage, and nothing of the empty half."""
    found = appearance(painted(colours, alpha))
    assert found == pytest.approx({"saturation": saturation, "contrast": contrast}, abs=1e-5)


def test_appearance_is_a_mean_over_pictures_that_show_something() -> None:
    red, grey, empty = painted([(1.0, 0.0, 0.0)]), painted([(0.5, 0.5, 0.5)]), painted([(0.0, 1.0, 0.0)], 0.25)
    found = appearance(torch.cat([red, grey, empty]))
    assert found == pytest.approx({"saturation": 0.5, "contrast": 0.0}, abs=1e-6)
    assert all(math.isnan(value) for value in appearance(empty).values())


def test_means_of_runs(tmp_path: Path) -> None:
    """Means over runs of the loop's seconds and iterations, and of what is known: a rival's residual is null."""
    for name, seconds, residual in (("a", [1.0, 2.0], [0.5, 0.3]), ("b", [2.0, 3.0], [None, None])):
        lines = [
            {"seconds": s, "noise_ratio": 1.1, "residual": r, "nfe": 2} for s, r in zip(seconds, residual, strict=True)
        ]
        write_text(tmp_path / name / "metrics.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    found = run_means([tmp_path / "a", tmp_path / "b"])
    assert found == pytest.approx({"seconds": 4.0, "iterations": 2, "noise_ratio": 1.1, "residual": 0.4})
    for odd in ("", "{", '{"seconds": "1"}', '{"seconds": NaN}', "[1]"):
        write_text(tmp_path / "odd" / "metrics.jsonl", odd)
        with pytest.raises(UserError, match=r"odd/metrics\.jsonl is damaged or of another kind"):
            run_means([tmp_path / "odd"])
    assert "residual" not in run_means([tmp_path / "b"]) and run_means([]) == {}


def test_means_of_meshes(tmp_path: Path) -> None:
    """Over the runs that have one."""
    fits = [dict.fromkeys(runs.MESH, value) | {"iou": 0.9} for value in (1, 4)]
    for name, mesh in (("a", fits[0]), ("b", fits[1]), ("c", {"faces": 0})):
        write_json(tmp_path / name / "summary.json", {"mesh": mesh})
    write_json(tmp_path / "d" / "summary.json", {})
    assert mesh_means([tmp_path / name for name in "abcd"]) == dict.fromkeys(runs.MESH, 2.5) | {"iou": 0.9}
    assert mesh_means([tmp_path / "c", tmp_path / "d"]) == {}


# Budgets


def test_cost_of_an_iteration(tmp_path: Path) -> None:
    """Evaluations of one picture, so that methods with fewer views a batch are not wronged; the first, slow iteration
    does not count, nor what slows others of the same resolution and time down."""
    timed = ((9.0, 32), (1.0, 32), (7.0, 32), (1.0, 32), *[(2.0, 64)] * 4, *[(1.5, 64)] * 2, (4.0, 64))
    lines = [{"seconds": seconds, "size": size, "nfe": 5} for seconds, size in timed]
    write_text(tmp_path / "metrics.jsonl", "\n".join(map(json.dumps, lines)) + "\n")
    write_text(tmp_path / "config.yaml", "{representation: {}, method: {views: 4}}")
    cost = read_cost(tmp_path)
    assert cost == Cost((3 * 1.0 + 4 * 2.0 + 3 * 1.5) / 10, 20)
    assert affordable(cost, "seconds", 46.5) == 30 and affordable(cost, "evaluations", 3200) == 160
    assert affordable(cost, "seconds", 0.1) == 1
    for odd in ("\x00", "", "[1]", "{representation: {}}", "{representation: {}, method: {views: many}}"):
        write_text(tmp_path / "config.yaml", odd)
        with pytest.raises(UserError, match=r"config\.yaml is (damaged|no run's configuration)") as raised:
            read_cost(tmp_path)
        assert "\n" not in str(raised.value)


def test_costs_are_measured_once_and_failures_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[tuple[str, tuple[str, ...]]] = []

    def launch(jobs: Sequence[Job], workers: int, device: str) -> list[Outcome]:
        assert (workers, device) == (2, "cpu")
        for job in jobs:
            made.append((job.folder.name, job.overrides))
            if job.folder.name != "broken":
                write_text(job.folder / "metrics.jsonl", '{"seconds": 2.0, "nfe": 3, "size": 64}\n')
                write_text(job.folder / "config.yaml", "{representation: {}, method: {views: 2}}")
                write_json(job.folder / "summary.json", {})
        return [Outcome(job, "see its log" if job.folder.name == "broken" else None) for job in jobs]

    monkeypatch.setattr(runs, "launch", launch)
    variants, run = {"one": ["a=1"], "broken": ["b=2"]}, ("prompt='a red car'", "seed=0")
    calibration = Calibration(tmp_path, "a red car", 6, None, 2, "cpu")
    for _ in range(2):
        known, unknown = calibration.costs(variants)
        assert known == {"one": Cost(2.0, 6)} and unknown == {"broken": "broken: see its log"}
    broken = ("broken", (*run, "b=2", "method.iterations=6"))
    assert sorted(made) == [broken] * 2 + [("one", (*run, "a=1", "method.iterations=6"))]

    made.clear()  # of a budget of seconds: again, as long as that buys
    known, unknown = replace(calibration, seconds=22).costs(variants)
    assert known == {"one": Cost(2.0, 6)} and list(unknown) == ["broken"]
    assert sorted(made) == [broken, ("one-at-length", (*run, "a=1", "method.iterations=11"))]


# The verb


def settings(*overrides: str) -> DictConfig:
    cli.register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("compare", list(overrides))


def comparison(*overrides: str) -> Comparison:
    return read(Comparison, cast(dict[str, Any], OmegaConf.to_container(settings(*overrides), resolve=True)))


TINY = (
    'settings=["method.views=1","method.inner=2","method.size.stages=[[0,16]]","representation.steps=16"]',
    "seeds=[0]",
    "calibration=2",
    "budget.seconds=null",
    "budget.evaluations=6",
    "suite.plain=[a red car]",
    "suite.parts=[]",
    "suite.held_out=[]",
    "device=cpu",
)


def test_the_verb_compares_goes_on_and_tells_failures(
    tmp_path: Path, tiny_prior: Path, tiny_judge: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three variants, one of which cannot run: tiny runs, the table, the picture; then the same command again makes
    nothing new, and other settings of a variant are refused."""
    cfg = settings(*TINY, f"folder={tmp_path}", f"judge={tiny_judge}")
    weights = f"prior.weights={tiny_prior}"
    variants = {"ours": [weights], "sds": [weights, "method=sds"], "wrong": [weights, "method.churn=0"]}
    OmegaConf.update(cfg, "lineup.variants", OmegaConf.create(variants), merge=False)
    compare.run(cfg)
    said = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    block: dict[str, Any] = results["budgets"]["evaluations"]
    assert set(block["figures"]) == {"ours", "sds"} and block["missing"] == 0
    log = tmp_path / "costs" / "wrong" / "output.txt"
    why = "method.churn=0: expected a whole number, 1 to 10000"
    assert block["failed"] == [f"wrong: {why}"] and log.read_text() == f"text23d: {why}\n"
    costs = {name: cost["evaluations"] for name, cost in results["costs"].items()}
    assert costs == {"ours": 5, "sds": 2}
    for name, row in block["figures"].items():
        assert row["runs"] == 1 and row["iterations"] == round(6 / costs[name]) and 0 <= row["judge"] <= 1
        assert row["evaluations"] == row["iterations"] * costs[name] and row["seconds"] > 0
        assert f"| {name} | {row['judge']:.3f}" in said
    assert "equal network evaluations: 6 evaluations a run" in said and "method.churn=0" in said
    assert said == (tmp_path / "results.md").read_text()
    with Image.open(tmp_path / "evaluations.png") as image:
        assert image.width > 128 and image.height > 3 * 64

    runs = {path: path.stat().st_mtime_ns for path in (tmp_path / "evaluations").rglob("summary.json")}
    assert len(runs) == 2 and not [*tmp_path.rglob("mesh.*"), *tmp_path.rglob("*.mp4")]
    compare.run(cfg)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "evaluations").rglob("summary.json")} == runs
    assert capsys.readouterr().out == said

    cfg.lineup.variants.sds = [weights, "method=sds", "prior.guidance=7"]
    with pytest.raises(UserError, match="sds holds results of another settings"):
        compare.run(cfg)
    cfg.lineup.variants.sds = ["method=nonsense"]
    with pytest.raises(UserError, match="no method named 'nonsense'"):
        compare.run(cfg)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("workers=0", "workers=0: expected a whole number, at least 1"),
        ("calibration=1.5", r"calibration=1\.5: expected a whole number"),
        ("objects=nan", "objects=nan: expected a whole number"),
        ("seeds=[]", r"seeds=\[\]: expected whole numbers, as in seeds=\[0,1\]"),
        ("seeds=[0,-1]", r"seeds=\[0, -1\]: expected whole numbers"),
        ("seeds=3", "seeds=3: expected whole numbers"),
        ("settings=null", "settings=null: expected a list of settings as method"),
        ("settings=['prompt=a mug']", "settings has prompt=a mug: the study itself chooses prompt of each run"),
        ("+lineup.variants.Big=[]", r"lineup\.variants\.Big: expected a name in small letters"),
        ("+lineup.variants.big=[sds]", r"lineup\.variants\.big=\[sds\]: expected a list of settings as method"),
        ("+lineup.variants.big=['seed=1']", r"lineup\.variants\.big has seed=1: the study itself"),
        ("+lineup.settings=['seed=1']", r"lineup\.settings has seed=1: the study itself"),
        ("lineup.variants=null", r"lineup\.variants=null: expected variants, as"),
        (
            "budget.seconds=-1",
            "budget=.*seconds: -1.*: expected seconds and evaluations, each a number above 0",
        ),
        ("budget.seconds=inf", "budget=.*: expected seconds and evaluations"),
        ("+budget.hours=1", "budget=.*: expected seconds and evaluations"),
        ("budget=null", "budget=null: expected seconds and evaluations"),
        ("judge=5", "judge=5: expected the name of a file or folder or null"),
        ("folder=null", "folder=null: expected the name of a file or folder"),
    ],
)
def test_mistakes(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        comparison(override)
    assert "\n" not in str(raised.value)


def test_a_budget_is_needed() -> None:
    assert comparison("budget.evaluations=null").budgets == {"seconds": 45.0}
    with pytest.raises(UserError, match=r"no budget: give budget\.seconds or budget\.evaluations"):
        comparison("budget.seconds=null", "budget.evaluations=null")


def test_every_lineup_is_of_settings_that_exist() -> None:
    for lineup in ("methods", "ablation", "guidance", "crisp"):
        for overrides in comparison(f"lineup={lineup}").overrides().values():
            assert overrides[:2] == ["outputs=minimal", "stages=1"]
            cfg = compose_plain("config", ["prompt=a red car", *overrides])
            assert cfg["outputs"] == ("all" if lineup == "crisp" else "minimal"), "crisp compares meshes"


def test_cells() -> None:
    row = {"judge": 0.5, "judge_error": 0.01, "seconds": 44.96, "iterations": 84.0}
    assert [cell(row, name) for name in ("judge", "seconds", "iterations", "kid")] == [
        "0.500 ± 0.010",
        "45.0",
        "84",
        "-",
    ]

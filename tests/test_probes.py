"""The best of several seeds: what a probe is, which goes on, and that it ends as the run of its seed alone does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_job import left, notes_of, stop_at
from tiny import IMAGE, settings

from text23d.compose import compose
from text23d.engine import job, probes
from text23d.engine.events import Event, Exporting, Iterated, Started
from text23d.engine.probes import Probe, pick, read_probe, with_seed
from text23d.engine.run import Run
from text23d.errors import Diverged, Interrupted, UserError

BEST = ("best_of=3", "best_of.share=0.5", "checkpoint.every=0")
GOES_ON = {"resume": {"folder": "auto", "force": False}}
CASES = {
    "nerf": (),
    "bank": ("views=bank",),
    "average": ("method.ema=0.9",),
    "vsd": ("method=vsd",),
    "image": IMAGE,
}


def prefer(seed: int) -> Callable[[Run], float]:
    """A judge that likes one seed best."""
    return lambda run: 1.0 if run.parts.seed == seed else 0.5 / (1 + run.parts.seed)


@pytest.fixture
def cfg(tiny_prior: Path) -> dict[str, Any]:
    return settings(tiny_prior, *BEST)


def alone(cfg: dict[str, Any], prior: Path, case: str, seed: int) -> dict[str, Any]:
    """The configuration of the run of a seed, as the command line makes it."""
    return settings(prior, *CASES[case], "checkpoint.every=0", f"seed={seed}")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 2])
def test_the_best_ends_as_the_run_of_its_seed_alone(
    case: str, seed: int, tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the same bytes of all that it makes, but for what it is asked for and what it cost."""
    monkeypatch.setattr(Run, "merit", prefer(seed))
    cfg = settings(tiny_prior, *CASES[case], *BEST)
    events: list[Event] = []
    summary = job.execute(cfg, tmp_path / "best", events.append)
    job.execute(alone(cfg, tiny_prior, case, seed), tmp_path / "alone")
    found, expected = left(tmp_path / "best"), left(tmp_path / "alone")
    for files in (found, expected):
        del files["config.yaml"], files["summary.json"]
    assert found == expected
    assert summary["seed"] == seed and [each["seed"] for each in summary["probes"]] == [0, 1, 2]
    assert [each["iterations"] for each in summary["probes"]] == [2, 2, 2]
    assert [each.iteration for each in events if isinstance(each, Iterated)] == [3, 4]
    tried = [each for each in events if isinstance(each, Exporting) and each.what.startswith("probe")]
    assert [each.what for each in tried] == [f"probe of seed {one}" for one in (0, 1, 2) for _ in range(2)]
    assert any(f"seed {seed} goes on, the best of 3 (0: judge" in note for note in notes_of(events))
    for one in (0, 1, 2):
        where = tmp_path / "best" / "probes" / str(one)
        assert sorted(each.name for each in where.iterdir()) == ["contact.png", "metrics.jsonl", "probe.json"]
    seconds = summary["seconds"]
    assert sum(value for name, value in seconds.items() if name != "total") <= 1.01 * seconds["total"]
    assert seconds["total"] >= sum(each["seconds"] for each in summary["probes"]) > seconds["probes"] > 0


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_comparison_of_seeds_that_is_interrupted_goes_on(
    at: int, cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the probe where it stopped, to the same bytes; what had been tried is not tried again."""
    monkeypatch.setattr(Run, "merit", prefer(1))
    job.execute(cfg, tmp_path / "whole")
    seen: list[Event] = []

    def stop(event: Event) -> None:
        seen.append(event)
        if len([each for each in seen if isinstance(each, Exporting)]) == at:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"interrupted while it compared seeds; resume=.*run goes on"):
        job.execute(cfg, tmp_path / "run", stop)
    events: list[Event] = []
    job.execute({**cfg, **GOES_ON}, tmp_path / "run", events.append)
    assert len([each for each in events if isinstance(each, Exporting)]) == 6 - at
    found, expected = left(tmp_path / "run"), left(tmp_path / "whole")
    for files in (found, expected):
        del files["config.yaml"], files["summary.json"]
    assert found == expected and not [note for note in notes_of(events) if "anew" in note]


def test_the_best_is_interrupted_and_goes_on(
    cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "merit", prefer(2))
    job.execute(cfg, tmp_path / "whole")
    with pytest.raises(Interrupted, match="interrupted after 3 of 4 iterations"):
        job.execute(cfg, tmp_path / "run", stop_at(3))
    events: list[Event] = []
    summary = job.execute({**cfg, **GOES_ON}, tmp_path / "run", events.append)
    assert isinstance(events[0], Started) and events[0].done == 3 and summary["seed"] == 2
    for name in ("nerf.safetensors", "contact.png"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    again = job.execute({**cfg, **GOES_ON}, tmp_path / "run")
    assert again["probes"] == json.loads(json.dumps(summary["probes"])), "finished: there is nothing left to do"


def test_probes_of_another_configuration_are_not_used(cfg: dict[str, Any], tiny_prior: Path, tmp_path: Path) -> None:
    """Neither by a new run in their folder, nor where the number of iterations, and with it every schedule, grew."""

    def stop(event: Event) -> None:
        if isinstance(event, Exporting) and event.what == "probe of seed 1":
            raise KeyboardInterrupt

    longer = settings(tiny_prior, *BEST, "method.iterations=6")
    for number, then in enumerate((cfg, {**longer, **GOES_ON})):
        with pytest.raises(Interrupted):
            job.execute(cfg, tmp_path / str(number), stop)
        events: list[Event] = []
        summary = job.execute(then, tmp_path / str(number), events.append)
        assert len([each for each in events if isinstance(each, Exporting)]) == 3 * (2, 3)[number]
        assert summary["iterations"] == (4, 6)[number]


def test_a_new_run_takes_the_probes_of_an_earlier_one_away(
    cfg: dict[str, Any], tiny_prior: Path, tmp_path: Path
) -> None:
    job.execute(cfg, tmp_path)
    (tmp_path / "probes" / "mine").mkdir()
    job.execute(settings(tiny_prior), tmp_path)
    assert [each.name for each in (tmp_path / "probes").iterdir()] == ["mine"], "but nothing of a person's"


# Which one


def probe(seed: int, score: float | None, loss: float, failure: str = "") -> Probe:
    return Probe(seed, 2, score, loss, 1.0, failure)


def test_the_judge_picks_and_where_it_is_not_asked_the_loss() -> None:
    assert pick([probe(0, 0.2, 1), probe(1, 0.9, 9), probe(2, 0.9, 0)]).seed == 1, "of equals the first"
    assert pick([probe(0, None, 3), probe(1, None, 2), probe(2, None, 2)]).seed == 1
    assert pick([probe(0, None, 0, "diverged"), probe(1, 0.1, 5), probe(2, 0.2, 9)]).seed == 2
    with pytest.raises(UserError, match="all 2 seeds diverged; the first: why; choose others"):
        pick([probe(0, None, 0, "why"), probe(1, None, 0, "too")])


def test_a_seed_that_diverges_does_not_go_on(
    cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Run.optimise

    def optimise(self: Run, until: int | None = None) -> None:
        if until is not None and self.parts.seed == 0:
            raise Diverged("it diverged")
        whole(self, until)

    monkeypatch.setattr(Run, "optimise", optimise)
    monkeypatch.setattr(Run, "merit", lambda run: None)
    summary = job.execute(cfg, tmp_path)
    assert [each["failure"] for each in summary["probes"]] == ["it diverged", "", ""]
    losses = {each["seed"]: each["loss"] for each in summary["probes"][1:]}
    assert summary["seed"] == min(losses, key=lambda seed: losses[seed])
    lines = [json.loads(line) for line in (tmp_path / "probes" / "1" / "metrics.jsonl").read_text().splitlines()]
    assert losses[1] == lines[-1]["loss"], "the later half of two iterations"


def test_sections_that_follow_the_seed_follow_it(tiny_prior: Path) -> None:
    cfg = compose("config", ["prompt=x", "views=bank", "seed=3"])
    assert with_seed(cfg, 5) == compose("config", ["prompt=x", "views=bank", "seed=5"])
    own = compose("config", ["prompt=x", "views=bank", "views.seed=9", "seed=3"])
    assert with_seed(own, 5)["views"]["seed"] == 9 and own["seed"] == 3


def test_settings_of_probes() -> None:
    assert compose("config", ["prompt=x", "best_of=4"])["best_of"] == {"probes": 4, "share": 0.25}
    assert compose("config", prompt="x", best_of=4)["best_of"]["probes"] == 4
    for key, value in (("probes", 0), ("probes", 1.5), ("share", 0), ("share", 2)):
        with pytest.raises(UserError, match=f"best_of.{key}={value}: expected"):
            job.read(job.JobSettings, {"best_of": {key: value}})
    assert probes.ProbeSettings().probes == 1, "none by default"


@pytest.mark.parametrize("data", ["[]", "{", '{"seed": 1}', '{"seed": "one", "iterations": 1, "score": 1, "loss": 1}'])
def test_a_damaged_record_of_a_probe_is_told_in_one_line(data: str, tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    path.write_text(data)
    with pytest.raises(
        UserError, match=r"probe.json is damaged \(.*\): remove it, and the probe is made again"
    ) as raised:
        read_probe(path)
    assert "\n" not in str(raised.value)

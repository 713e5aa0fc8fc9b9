"""The two training commands, end to end at a tiny size, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import verbs

from text23d.judge import network
from text23d.prior.builtin import prior as builtin
from text23d.worlds.objects.caption import words
from text23d.worlds.objects.world import Objects

DATA = ["data.objects=16", "data.views=1", "data.workers=1"]


def command(verb: str, folder: Path, *settings: str) -> str:
    """Run a verb in `folder`; its standard output and error together."""
    done = verbs.done("folder=made", *DATA, *settings, verb=verb, cwd=folder, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_train_prior_writes_a_prior_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    small = ["network.widths=[16,16]", "train.batch=16", "data.validation=4"]
    command("train_prior", tmp_path, *small, "train.images=16")
    first = builtin.load(tmp_path / "made" / "prior.safetensors")
    assert first.card["images"] == 16
    assert first.vocabulary.words == words()
    assert all(value > 0 for value in first.table["rms_none"])
    assert (tmp_path / "made" / "prior.md").read_text().count("|") > 60
    assert (tmp_path / "made" / "samples.png").stat().st_size > 0
    assert "- never shown: a turquoise teapot" in (tmp_path / "made" / "prior.md").read_text()
    command("train_prior", tmp_path, *small, "train.images=48")
    assert builtin.load(tmp_path / "made" / "prior.safetensors").card["images"] == 48


def test_train_judge_writes_a_judge_with_its_own_accuracy_and_goes_on(tmp_path: Path) -> None:
    small = ["train.batch=8", "data.test=8"]
    command("train_judge", tmp_path, *small, "train.steps=1")
    said = command("train_judge", tmp_path, *small, "train.steps=2")
    judge = network.load(tmp_path / "made" / "judge.safetensors")
    assert tuple(judge.heads.values()) == Objects().heads and judge.card["steps"] == 2
    for how in ("clean", "corrupted"):  # eight objects may have no coloured part among them
        assert {"kind", "colour", "azimuth"} <= judge.card[how].keys() and "nan" not in said
        assert all(0 <= share <= 1 for share in judge.card[how].values())
    assert "judge.safetensors: on unseen examples {'kind'" in said

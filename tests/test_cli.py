"""The door: prompts that hold anything, and every mistake told in one line of a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import text23d
from text23d import cli, run
from text23d.errors import UserError
from text23d.paths import weights_dir

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(text23d.__file__).parents[1]),
    "CUDA_VISIBLE_DEVICES": "",  # so that device=cuda is a mistake on every machine
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(autouse=True)
def resolvers() -> None:
    cli.register_resolvers()


# Quoting


def read_back(argument: str) -> list[str]:
    """What the verb receives for `argument`: through Hydra's grammar, then through OmegaConf's interpolations."""
    override = OverridesParser.create().parse_override(argument)
    values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_string()]
    single = [OverridesParser.create().parse_override(f"{override.key_or_group}={value}").value() for value in values]
    return [OmegaConf.create({"prompt": value, "seed": 7})["prompt"] for value in single]


NASTY = [
    "a red car",
    "",
    "null",
    "true",
    "12",
    "a red car, a blue chair",
    "it's (a) = {b}: [c]!",
    'say "car"',
    "'quoted'",
    '"quoted"',
    "ends in a backslash\\",
    "two\\\\",
    "\\'",
    "\\\\'",
    "a \\ b",
    "un château 🚗 見",
    "${seed}",
    "$seed ${oc.env:HOME} $",
    "\\${seed}",
    "\\\\${seed}",
    "%#~*?&;|<>",
    "  spaces  ",
    "two\nlines\tand a tab",
]


@pytest.mark.parametrize("text", NASTY)
def test_a_prompt_arrives_as_it_was_written(text: str) -> None:
    assert read_back(cli.quote_text(f"prompt={text}", False)) == [text]
    assert read_back(cli.quote_text(f"+prompt={text}", False)) == [text]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a red car,a blue chair", ["a red car", "a blue chair"]),
        ("a red car, a blue chair", ["a red car", "a blue chair"]),
        ("'a car, red','a blue chair'", ["a car, red", "a blue chair"]),
        ('"a car, red","a blue chair"', ["a car, red", "a blue chair"]),
        ("a red car", ["a red car"]),
        ("null,a (red) car!", ["null", "a (red) car!"]),
        ("it's a car,a ${seed}", ["it's a car", "a ${seed}"]),
        ("", [""]),
    ],
)
def test_a_sweep_takes_commas_outside_quotes_apart(written: str, expected: list[str]) -> None:
    assert read_back(cli.quote_text(f"prompt={written}", True)) == expected


def test_only_texts_are_quoted() -> None:
    for argument in ("seed=1,2", "mesh.threshold=null", "--multirun", "prompt", "-m"):
        assert cli.quote_text(argument, False) == cli.quote_text(argument, True) == argument


def test_single_values() -> None:
    assert list(cli.single_values("seed=0,1,2")) == ["seed=0", "seed=1", "seed=2"]
    assert list(cli.single_values("prompt='a, b','c'")) == ["prompt='a, b'", "prompt='c'"]
    assert list(cli.single_values("seed=range(0,2)")) == ["seed=0", "seed=1"]
    assert list(cli.single_values("+stages=3")) == ["+stages=3"]


# Checking


def complaint(*arguments: str, multirun: bool = False) -> str:
    with pytest.raises(UserError) as raised:
        cli.check_overrides("config", arguments, multirun)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_good_overrides_pass() -> None:
    prompt = "prompt='a red car'"
    cli.check_overrides("config", [prompt, "method=langevin", "method.views=3", "hydra.run.dir=somewhere"], False)
    cli.check_overrides("config", ["prompt='a red car','a blue chair'", "seed=0,1"], True)
    cli.check_overrides("train_prior", ["train.images=100"], False)


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("promt='a red car'", ["no setting named 'promt'", "did you mean prompt"]),
        ("method.iteration=3", ["'method.iteration'", "did you mean method.iterations"]),
        ("iterations=3", ["'iterations'", "did you mean method.iterations"]),
        ("view.elevation=[0,1]", ["'view.elevation'", "did you mean views.elevation"]),
        ("method=langvin", ["no method named 'langvin'", "did you mean langevin", "known are", "langevin"]),
        ("method=null", ["no method named 'null'", "known are ism, langevin, sdi, sds, vsd"]),
        ("method.views=[1,", ["cannot read 'method.views=[1,'"]),
        ("nonsense", ["nonsense"]),
    ],
)
def test_near_misses(argument: str, parts: list[str]) -> None:
    said = complaint("prompt='a red car'", argument)
    assert all(part in said for part in parts), said


def test_a_mistake_inside_a_sweep_is_found_before_the_first_job() -> None:
    said = complaint("prompt='a red car'", "method=langevin,langvin", multirun=True)
    assert "no method named 'langvin'" in said


def test_near_names_the_closest_or_some() -> None:
    assert cli.near("chiar", ["mug", "chair", "house"]) == "did you mean chair?"
    assert cli.near("zzz", ["a", "b", "c", "d"]) == "did you mean a or b or c?"


def test_all_keys_stop_at_what_is_not_given() -> None:
    config = OmegaConf.create({"a": {"b": 1, "c": None}, "d": "???", "e": [1]})
    assert list(cli.all_keys(config)) == ["a", "a.b", "a.c", "d", "e"]


def test_a_missing_value_is_asked_for() -> None:
    assert complaint("seed=1") == 'no prompt given: add one, for example prompt="a red car"'


def test_folders_that_can_be_made(tmp_path: Path) -> None:
    cli.check_folder(tmp_path)
    cli.check_folder(tmp_path / "new" / "and" / "deep")
    (tmp_path / "taken").write_text("a file")
    for path in (tmp_path / "taken", tmp_path / "taken" / "run" / "0"):
        with pytest.raises(UserError, match=r"cannot write to the folder .*taken is not a folder"):
            cli.check_folder(path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("text", "slug"),
    [("A red car!", "a-red-car"), ("见 🚗", "untitled"), ("../../etc", "etc"), ("x" * 60, "x" * 40), ("it's", "it-s")],
)
def test_slugs_are_names_of_folders(text: str, slug: str) -> None:
    assert OmegaConf.create({"text": text, "slug": "${slug:${text}}"})["slug"] == slug


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.device("auto") == cli.device("cpu") == torch.device("cpu")
    for name, problem in (("cuda", "no GPU is visible"), ("tpu", "expected auto, cpu or cuda")):
        with pytest.raises(UserError, match=f"device={name}: {problem}"):
            cli.device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cli.device("auto") == cli.device("cuda") == torch.device("cuda") and cli.device("cpu").type == "cpu"


def test_empty_folders_are_taken_away_inside_the_working_folder_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here / "outputs" / "day" / "run", here / "kept" / "run", elsewhere / "run"):
        folder.mkdir(parents=True)
    (here / "kept" / "notes.txt").write_text("mine")
    monkeypatch.chdir(here)
    for folder in (here / "outputs" / "day" / "run", here / "kept" / "run", elsewhere / "run"):
        run.remove_empty(folder)
    assert sorted(path.name for path in here.iterdir()) == ["kept"] and list(elsewhere.iterdir()) == []
    assert [path.name for path in (here / "kept").iterdir()] == ["notes.txt"]


# Every mistake, in a process of its own


@dataclass(frozen=True)
class Mistake:
    """What is typed, and what the one line must hold: what was given, what was expected."""

    arguments: tuple[str, ...]
    parts: tuple[str, ...]


CAR = "prompt=a red car"
KNOWN = "known words: airplane, bed, bicycle"
MISTAKES = {
    "empty prompt": Mistake(("prompt=",), ("prompt is empty", '"a red car"', KNOWN)),
    "no prompt": Mistake((), ("no prompt given", 'prompt="a red car"')),
    "unknown word": Mistake(("prompt=a red zebra",), ("'zebra'", KNOWN)),
    "near word": Mistake(("prompt=a red mushrom",), ("'mushrom'", "did you mean mushroom?")),
    "comma": Mistake(("prompt=a red car, a blue chair",), ("several objects (car and chair)", "for example")),
    "punctuation": Mistake(('prompt=!(it\'s "a" {red}: [caar]',), ("'it'", KNOWN)),
    "equals": Mistake(("prompt=car = fast",), ("'='", KNOWN)),
    "emoji": Mistake(("prompt=a red 🚗",), ("'🚗'", KNOWN)),
    "null": Mistake(("prompt=null",), ("'null'", KNOWN)),
    "interpolation": Mistake(("prompt=car ${seed}",), ("'$'", KNOWN)),
    "prompt without its name": Mistake(("a red car",), ("no setting named 'a red car'",)),
    "unknown key": Mistake((CAR, "method.iteration=4"), ("'method.iteration'", "did you mean method.iterations")),
    "unknown option": Mistake((CAR, "method=langvin"), ("'langvin'", "did you mean langevin")),
    "unknown flag": Mistake((CAR, "--views=3"), ("'--views=3'", "key=value")),
    "negative views": Mistake((CAR, "method.views=-1"), ("method.views=-1", "at least 1")),
    "broken views": Mistake((CAR, "method.views=2.5"), ("method.views=2.5", "whole number")),
    "negative resolution": Mistake((CAR, "mesh.resolution=-5"), ("mesh.resolution=-5", "at least 2")),
    "resolution in words": Mistake((CAR, "mesh.resolution=high"), ("mesh.resolution=high", "whole number")),
    "negative size": Mistake((CAR, "turntable.size=-16"), ("turntable.size=-16", "at least 16")),
    "negative pictures": Mistake((CAR, "method.size.stages=[[0,-4]]"), ("method.size", "[-4]", "at least 1")),
    "outputs": Mistake((CAR, "outputs=few"), ("outputs=few", "all or minimal")),
    "sigma upwards": Mistake((CAR, "method.sigma.start=0.01"), ("0.01 (maximum)", "(minimum)", "start >= end > 0")),
    "no such folder": Mistake((CAR, "hydra.run.dir=taken/run"), ("taken/run", "not a folder you may write to")),
    "missing weights": Mistake((CAR, "prior.weights=nowhere.safetensors"), ("no file nowhere.safetensors", "expected")),
    "damaged weights": Mistake((CAR, "prior.weights=cut.safetensors"), ("cut.safetensors", "cut short")),
    "no GPU": Mistake((CAR, "device=cuda"), ("device=cuda", "no GPU", "use device=auto")),
    "negative seed": Mistake((CAR, "seed=-1"), ("seed=-1", "whole number")),
    "seed in words": Mistake((CAR, "seed=lucky"), ("seed=lucky", "whole number")),
}


@dataclass(frozen=True)
class Outcome:
    status: int
    stderr: str
    left: list[str]


def outcome(arguments: tuple[str, ...], folder: Path) -> Outcome:
    """Run the verb in `folder`, beside a file called taken and a prior's weights of which only the half is there."""
    folder.mkdir()
    (folder / "taken").write_text("a file")
    whole = (weights_dir() / "prior.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    command = [sys.executable, "-m", "text23d.run", *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    left = sorted(path.name for path in folder.iterdir() if path.name not in ("taken", "cut.safetensors"))
    (folder / "cut.safetensors").unlink()
    return Outcome(done.returncode, done.stderr, left)


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Outcome]]:
    """The outcome of a mistake by its name; while one is looked at, the next one's process already starts."""
    names, folder = list(MISTAKES), tmp_path_factory.mktemp("mistakes")
    started: dict[str, Future[Outcome]] = {}
    with ThreadPoolExecutor(2) as pool:

        def of(name: str) -> Outcome:
            at = names.index(name)
            for each in names[at : at + 2]:
                if each not in started:
                    started[each] = pool.submit(outcome, MISTAKES[each].arguments, folder / each.replace(" ", "-"))
            return started[name].result()

        yield of


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(name: str, mistakes: Callable[[str], Outcome]) -> None:
    found = mistakes(name)
    assert found.status == 2, found.stderr
    assert found.stderr.startswith("text23d: ") and found.stderr.count("\n") == 1 and found.stderr.endswith("\n")
    assert "Traceback" not in found.stderr and len(found.stderr) < 500
    assert all(part in found.stderr for part in MISTAKES[name].parts), found.stderr
    assert found.left == [], "a run that wrote nothing leaves no folder"


def test_help_and_the_configuration_can_be_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "text23d.run", "prompt=it's a car", "--cfg", "job", "seed=3"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    shown = OmegaConf.create(done.stdout)
    assert shown.prompt == "it's a car" and shown.seed == 3 and list(tmp_path.iterdir()) == []
    done = subprocess.run([*command[:3], "--help"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and "method" in done.stdout and "prompt" in done.stdout

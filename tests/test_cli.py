"""The door: verbs, help, versions, ends by signals, and every mistake told in one line of a real process."""

from __future__ import annotations

import ast
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import text23d
from text23d import cli, interruption, run
from text23d.errors import UserError
from text23d.paths import config_of, weights_dir

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(text23d.__file__).parents[1]),
    "CUDA_VISIBLE_DEVICES": "",  # so that device=cuda is a mistake on every machine
    "OMP_NUM_THREADS": "1",
}


def called(*arguments: str, verb: str | None = None) -> int:
    """The status with which `text23d <arguments>` ends, in this process."""
    before = {
        name: signal.getsignal(number) for name in interruption.SIGNALS if (number := getattr(signal, name, None))
    }
    argv, sys.argv = sys.argv, ["text23d", *arguments]
    try:
        cli.main(verb)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = argv
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


# Verbs


def test_every_verb_is_a_module_that_calls_the_door_first() -> None:
    """Before any import that takes its time, and no other module does."""
    package, found = Path(text23d.__file__).parent, []
    for path in package.glob("*.py"):
        tree = ast.parse(path.read_text())
        heads = [node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)]
        if heads and path.stem != "__main__":
            found.append(path.stem)
            assert ast.unparse(heads[0].body[0]) == f"cli.main('{path.stem}')"
            imports = [ast.unparse(node) for node in tree.body[: tree.body.index(heads[0])]][1:]
            assert imports == ["from __future__ import annotations", "from text23d import cli"], path.stem
    assert sorted(found) == sorted(cli.VERBS)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_verbs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert called(*arguments) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb}" in said and does in said for verb, does in cli.VERBS.items())


@pytest.mark.parametrize("arguments", [["run", "--help"], ["help", "run"], ["run", "seed=3", "-h"]])
def test_a_verbs_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert called(*arguments) == 0
    assert capsys.readouterr().out.startswith('usage: text23d run prompt="a red car" key=value ...')


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_and_version_of_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("--help", verb=verb) == called(verb.replace("_", "-"), "--help") == 0
    assert f"text23d {verb}" in capsys.readouterr().out
    assert called("--version", verb=verb) == called(verb, "--version") == called("--version") == 0
    assert capsys.readouterr().out == f"text23d {text23d.__version__}\n" * 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rum"], "no verb named 'rum': did you mean run? known are run, export"),
        (["train"], "did you mean train_prior or train_judge or strips?"),
        (["zzzzzz"], "no verb named 'zzzzzz': known are run, export"),
        (["help", "rum"], "no verb named 'rum'"),
        (["a red car"], 'no verb given: did you mean text23d run prompt="a red car"?'),
        (["prompt=a red car"], 'no verb given: did you mean text23d run prompt="a red car"?'),
        (["run", "a", "red", "car"], 'did you mean prompt="a red car"?'),
        (["run", "prompt=\udcff"], "holds bytes that are no UTF-8 text"),
        (["export"], "no run given"),
    ],
)
def test_wrong_verbs_and_first_guesses(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(*arguments) == 2
    said = capsys.readouterr().err
    assert expected in said and said.startswith("text23d: ") and said.count("\n") == 1


def test_a_working_folder_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = os.getcwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        assert called("run", CAR) == 2
    finally:
        os.chdir(here)
    assert "the working folder is gone" in capsys.readouterr().err


def test_the_console_script_and_the_module_are_the_same(tmp_path: Path) -> None:
    for command in ([sys.executable, "-m", "text23d"], [sys.executable, "-c", "from text23d.cli import main; main()"]):
        done = subprocess.run([*command, "rum"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith("text23d: no verb named 'rum'")
    assert 'text23d = "text23d.cli:main"' in (Path(text23d.__file__).parents[1] / "pyproject.toml").read_text()


@pytest.mark.parametrize("last", ["promt=x", "prompt=a zebra", "--cfg=job", "--help"])
def test_a_mistake_is_told_and_the_configuration_shown_before_anything_heavy_is_imported(last: str) -> None:
    """So that it takes a second at most: importing torch alone takes longer."""
    code = "import sys; from text23d import cli\ntry: cli.main('run')\n"
    code += "finally: print(*{'torch', 'nerfacc', 'scipy', 'trimesh', 'text23d.run'} & set(sys.modules))"
    command = [sys.executable, "-c", code, CAR, last]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == (0 if last[:2] == "--" else 2) and done.stdout.splitlines()[-1] == "", done.stderr


def test_a_reader_that_stops_early_is_no_mistake() -> None:
    command = f"{sys.executable} -m text23d vocabulary | head -1"
    done = subprocess.run(command, shell=True, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.startswith("prompt = ") and done.stderr == ""


# What a verb raises


def test_whose_fault_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[Exception, str]] = [
        (UserError("one\nline"), "one line"),
        (FileNotFoundError(2, "No such file", "x.png"), "x.png: No such file; choose another file or folder"),
        (OSError(28, "No space left on device", "x"), "x: No space left on device; free some space"),
        (MemoryError(), "out of memory: free some memory, or ask for less"),
        (RuntimeError("could not create a primitive"), "out of memory (could not create a primitive): free some"),
    ]
    cfg: Any = OmegaConf.create({"a": {"b": "???"}}, flags={"struct": True})
    for key, said in (("b", "no a.b given: add one"), ("c", "the setting a.c is not there")):
        with pytest.raises(OmegaConfBaseException) as raised:
            cfg.a[key]
        told.append((raised.value, said))
    for error, said in told:
        assert cli.told(error) == 2 and said in capsys.readouterr().err
    assert cli.told(KeyboardInterrupt()) == cli.told(KeyboardInterrupt("kept")) == 130
    assert capsys.readouterr().err == "text23d: interrupted\ntext23d: kept\n"
    for defect in (ValueError("ours"), KeyError("ours")):
        with pytest.raises(type(defect)):
            cli.told(defect)


def test_after_a_signal_whatever_is_raised_ends_by_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import that was cut short raises ImportError, and a terminal that is gone OSError."""
    monkeypatch.setattr(cli, "ended_by", [15])
    assert (
        cli.told(ImportError("numpy")) == cli.told(KeyboardInterrupt("kept in x")) == cli.told(OSError(5, "x")) == 143
    )
    assert capsys.readouterr().err == "text23d: interrupted\ntext23d: kept in x\ntext23d: interrupted\n"


def test_a_job_travels_by_name_and_brings_its_resolvers() -> None:
    OmegaConf.clear_resolver("slug")
    job = pickle.loads(pickle.dumps(cli.Job("gallery", None)))
    assert job.verb == "gallery" and OmegaConf.create({"a": "${slug:A b}"}).a == "a-b"


# Signals


@pytest.mark.parametrize("name", [name for name in interruption.SIGNALS if hasattr(signal, name)])
@pytest.mark.parametrize("ignored", [False, True])
def test_the_first_signal_is_an_exception_and_a_second_ctrl_c_ends(
    name: str, ignored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not what the process was started to ignore, as by nohup."""
    number = getattr(signal, name)
    monkeypatch.setattr(interruption, "ended_by", [])
    before = {each: signal.getsignal(getattr(signal, each)) for each in interruption.SIGNALS if hasattr(signal, each)}
    try:
        signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        interruption.watch(interruption.interrupt)
        if ignored:
            os.kill(os.getpid(), number)
            assert interruption.ended_by == [] and signal.getsignal(number) is signal.SIG_IGN
            return
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)
        expected = signal.SIG_DFL if number == signal.SIGINT else signal.SIG_IGN
        assert interruption.ended_by == [number] and signal.getsignal(number) is expected
    finally:
        for each, handler in before.items():
            signal.signal(getattr(signal, each), handler)


IMPORTS = "print('begun', flush=True)\nimport time\ntime.sleep(60)\n"
"""In torch's place: a module that takes its time."""
RUNS = """
import sys, time, types
from text23d import cli, interruption

def run(cfg):
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        cli.output_folder().joinpath("kept").touch()
        print("kept", flush=True)
        time.sleep({after})
        raise KeyboardInterrupt("kept what there is") from None

sys.modules["text23d.run"] = types.SimpleNamespace(run=run)
cli.main("run")
"""
"""In the place of a run: it keeps something when it is interrupted."""


def ended(folder: Path, command: list[str], signals: list[str], **environment: str) -> tuple[int, str]:
    """Status and standard error of a process that prints a line before it is sent each of these."""
    process = subprocess.Popen(
        [sys.executable, *command, CAR, "hydra.run.dir=result"], cwd=folder, env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: [signal.signal(getattr(signal, each), signal.SIG_DFL) for each in interruption.SIGNALS],
    )  # fmt: skip
    try:
        assert process.stdout is not None
        for each in signals:
            assert process.stdout.readline() in ("begun\n", "kept\n")
            process.send_signal(getattr(signal, each))
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize("name", interruption.SIGNALS)
def test_a_signal_while_python_imports_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(IMPORTS)
    path = os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]])
    status, said = ended(tmp_path, ["-m", "text23d.run"], [name], PYTHONPATH=path)
    assert status == 128 + getattr(signal, name) and said == "text23d: interrupted\n"
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("name", interruption.SIGNALS)
def test_a_signal_lets_a_run_keep_what_it_has(name: str, tmp_path: Path) -> None:
    status, said = ended(tmp_path, ["-c", RUNS.format(after=0)], [name])
    assert status == 128 + getattr(signal, name) and said == "text23d: kept what there is\n"
    assert (tmp_path / "result" / "kept").exists()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    status, said = ended(tmp_path, ["-c", RUNS.format(after=60)], ["SIGTERM", "SIGINT"])
    assert status == -signal.SIGINT and "Traceback" not in said


# What else verbs share


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.device("auto") == cli.device("cpu") == torch.device("cpu")
    for name, problem in (("cuda", "no GPU is visible"), ("tpu", "expected auto, cpu or cuda")):
        with pytest.raises(UserError, match=f"device={name}: {problem}"):
            cli.device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert cli.device("auto") == cli.device("cuda") == torch.device("cuda") and cli.device("cpu").type == "cpu"


def test_the_configuration_of_every_verb_is_found() -> None:
    for verb in cli.VERBS:
        path = config_of(verb)
        assert (path is None) == (verb in ("vocabulary", "world", "doctor"))
        assert path is None or path.stem == {"run": "config"}.get(verb, verb)


@pytest.mark.parametrize(
    ("text", "slug"),
    [("A red car!", "a-red-car"), ("见 🚗", "untitled"), ("../../etc", "etc"), ("x" * 60, "x" * 40), ("it's", "it-s")],
)
def test_slugs_are_names_of_folders(text: str, slug: str) -> None:
    cli.register_resolvers()
    assert OmegaConf.create({"text": text, "slug": "${slug:${text}}"})["slug"] == slug


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
    "prompt without its name": Mistake(("a red car",), ("'a red car'", 'did you mean prompt="a red car"?')),
    "empty folder": Mistake((CAR, "hydra.run.dir="), ("hydra.run.dir= is empty",)),
    "launcher": Mistake((CAR, "-m", "hydra/launcher=rq"), ("pip install hydra-rq-launcher",)),
    "prompts in no file": Mistake(
        ("prompts=none.txt",), ("prompts=none.txt: there is no such file", "one prompt a line")
    ),
    "unknown key": Mistake((CAR, "method.iteration=4"), ("'method.iteration'", "did you mean method.iterations")),
    "unknown option": Mistake((CAR, "method=langvin"), ("'langvin'", "did you mean langevin")),
    "unknown flag": Mistake((CAR, "--views=3"), ("'--views=3'", "key=value")),
    "negative views": Mistake((CAR, "method.views=-1"), ("method.views=-1", "whole number, 1 to")),
    "broken views": Mistake((CAR, "method.views=2.5"), ("method.views=2.5", "whole number")),
    "negative resolution": Mistake((CAR, "mesh.resolution=-5"), ("mesh.resolution=-5", "at least 2")),
    "resolution in words": Mistake((CAR, "mesh.resolution=high"), ("mesh.resolution=high", "whole number")),
    "negative size": Mistake((CAR, "turntable.size=-16"), ("turntable.size=-16", "whole number, 16 to")),
    "negative pictures": Mistake((CAR, "method.size.stages=[[0,-4]]"), ("method.size", "-4", "whole number")),
    "outputs": Mistake((CAR, "outputs=few"), ("outputs=few", "all", "minimal")),
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


def test_the_configuration_can_be_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "text23d.run", "prompt=it's a car", "--cfg", "job", "seed=3"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    shown = OmegaConf.create(done.stdout)
    assert shown.prompt == "it's a car" and shown.seed == 3 and list(tmp_path.iterdir()) == []

"""The settings on a command line: texts that hold anything, every mistake one line, and what a stranger may not say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from text23d import cli
from text23d.door import commandline, hints, manual
from text23d.door.layout import alternatives, configuration, flat, single_values
from text23d.door.overrides import check, check_folder
from text23d.door.text import FOLDERS, NO_TEXTS, is_text, text_value
from text23d.errors import UserError
from text23d.paths import conf_dir, config_of
from text23d.quoting import quoted

CAR = "prompt=a red car"
WITH_SETTINGS = [verb for verb in cli.VERBS if config_of(verb)]


@pytest.fixture(autouse=True)
def resolvers() -> Iterator[None]:
    """What a verb registers, and what a folder of a stranger's takes away."""
    cli.register_resolvers()
    yield
    OmegaConf.register_new_resolver("oc.env", oc_env, replace=True)


def oc_env(name: str, default: Any = None) -> Any:
    from omegaconf.resolvers import oc

    return oc.env(name, default)


def read_back(argument: str) -> list[Any]:
    """What the verb receives for `argument`: through Hydra's grammar, then through OmegaConf's interpolations."""
    override = OverridesParser.create().parse_override(argument)
    values = list(override.sweep_string_iterator()) if override.is_sweep_override() else [override.get_value_string()]
    single = [OverridesParser.create().parse_override(f"{override.key_or_group}={value}").value() for value in values]
    return [OmegaConf.create({"x": value, "seed": 7})["x"] for value in single]


# Texts


NASTY = [
    "a red car",
    "null",
    "true",
    "12",
    "a red car, a blue chair",
    "it's (a) = {b}: [c]!",
    'say "car"',
    "ends in a backslash\\",
    "two\\\\",
    "\\'",
    "\\\\'",
    "a \\ b",
    "un château 🚗 見",
    "${seed}",
    "${",
    "a ${ b",
    "$seed ${oc.env:HOME} $",
    "\\${seed}",
    "\\\\${seed}",
    "%#~*?&;|<>",
    "  spaces  ",
    "two\nlines\tand a tab",
]
PROSE = ["", "'quoted'", '"quoted"']
"""What only a prompt can be: of a file's name the quotes are those of an older command line."""


@pytest.mark.parametrize("text", [*NASTY, *PROSE])
def test_a_prompt_arrives_as_it_was_written(text: str) -> None:
    for key in ("prompt", "prior.negative"):
        assert read_back(f"x={text_value(key, text, '???', False)}") == [text]


@pytest.mark.parametrize("text", NASTY)
def test_so_does_the_name_of_a_file(text: str) -> None:
    assert read_back(f"x={text_value('out', text, 'here', False)}") == [text]
    if text != "null":
        assert read_back(f"x={text_value('out', text, None, False)}") == [text]


def test_null_is_nothing_where_nothing_is_the_default() -> None:
    assert text_value("out", "null", None, False) == text_value("out", "Null", None, True) == "null"
    assert text_value("prompt", "null", "???", False) == text_value("device", "null", "auto", False) == "'null'"
    assert text_value("out", "'null'", None, False) == "'null'"
    assert text_value("weights", "null,a.st", None, True) == "null,'a.st'"


def test_the_quotes_of_an_older_command_line_are_not_part_of_a_files_name() -> None:
    for written in ("'my (best), run'", '"my (best), run"'):
        assert read_back(f"x={text_value('run', written, '???', False)}") == ["my (best), run"]


@pytest.mark.parametrize("key", ["hydra.run.dir", "hydra.sweep.dir", "out", "prior.folder", "run"])
def test_an_empty_name_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"{key}= is empty: give it a value, or leave it out"):
        text_value(key, "", None, False)


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
    assert read_back(f"x={text_value('prompt', written, '???', True)}") == expected
    if written:
        assert read_back(f"x={text_value('out', written, 'here', True)}") == expected


def test_a_folder_of_results_may_refer_to_settings_but_holds_other_dollars() -> None:
    names = ("seed", "hydra.job.num", "prompt")
    kept = "o/${now:%Y-%m-%d}/${hydra.job.num}-${slug:${prompt}}-${oc.env:HOME,x}-${seed}"
    assert text_value("hydra.run.dir", kept, "x", False, names) == f"'{kept}'"
    for text in ("${", "${x}", "${seed", "${seeds}", "${nowhere:1}", "a ${b} c"):
        assert read_back(f"x={text_value('hydra.run.dir', text, 'x', False, names)}") == [text]
    assert read_back(f"x={quoted('${seed} ${b}', names)}".replace("${b}", "b")) == ["7 \\b"], "one stays, one does not"
    assert text_value("hydra.sweep.dir", "a,b", "x", True) == "'a,b'", "a sweep has one folder"


OURS = [path for path in sorted(conf_dir().rglob("*.yaml")) if path.parts[-3] != "hydra"]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(conf_dir())))
def test_what_is_null_by_default_is_a_text_or_known_as_none(path: Path) -> None:
    """The rule needs to be told which settings that may be null are numbers: a new one has to be put on a list."""
    texts = (
        "weights",
        "auxiliary_weights",
        "matting",
        "image",
        "ip_adapter",
        "pictures",
        "judge",
        "negative",
        "start",
        "export",
        "out",
        "folder",
        "path",
        "mask",
        "format",
        "prompts",
        "revision",
        "licence",
        "auxiliary_path",
        "reuse",
        "record",
        "tokens",
        "database",
        "address",
    )
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for key, default in flat({name: value for name, value in settings.items() if name != "hydra"}):
        if default is None:
            last = key.rpartition(".")[2]
            assert (last in texts) != (last in NO_TEXTS), f"{key}: a text, or one of door.text.NO_TEXTS?"
            assert is_text(key, default) == (last in texts)


def test_texts_are_found_by_their_defaults() -> None:
    texts = {"prompt": "???", "hydra.run.dir": None, "prior.weights": None, "folder": "outputs/${suite.name}"}
    assert all(is_text(key, default) for key, default in texts.items())
    others = {"seed": 0, "method.leak": 0.25, "full": False, "seeds": [0], "method": {}, "mesh.threshold": None}
    assert not any(is_text(key, default) for key, default in (others | {"hydra.job.name": "x"}).items())
    assert all(is_text(key, None) for key in FOLDERS)


# Paths, through the whole door


ODD = 'it\'s (a) = {b}, [c]! 100 % ü 見 ${seed} "q"'
PATHS = {
    "run": (
        "hydra.run.dir",
        "hydra.sweep.dir",
        "prior.weights",
        "prior.auxiliary_weights",
        "prior=empirical prior.folder",
        "prior=hub prior.path",
        "representation=image representation.start",
        "constraint=reference constraint.mask=m constraint.picture",
        "constraint=reference constraint.picture=p constraint.mask",
    ),
    "export": ("run", "out run=."),
    "view": ("run", "record run=."),
    "gallery": ("runs", "runs=. out"),
    "evaluate": ("folder", "weights", "judge"),
    "compare": ("folder", "judge"),
    "sampling": ("folder", "weights", "judge"),
    "strips": ("folder",),
    "benchmark": ("folder",),
    "serve": ("server.folder", "server.tokens", "server.database", "server.ray.address"),
    "train_prior": ("folder", "start", "export"),
    "train_judge": ("folder", "export"),
}


@pytest.mark.parametrize(("verb", "written"), [(verb, each) for verb, all_ in PATHS.items() for each in all_])
def test_a_path_may_have_any_name(verb: str, written: str) -> None:
    """In a single run, and in a sweep of two, where it stands in quotes."""
    path, words = config_of(verb), written.split()
    assert path is not None
    key = next(word for word in words if "=" not in word)
    beside = [word for word in words if "=" in word]
    odd = ODD.replace("${seed}", "${ x") if key in FOLDERS else ODD
    with configuration(path.parent):
        _, cfg = check(path.stem, [*beside, f"{key}={odd}"], runs=False)
        assert OmegaConf.select(cfg, key) == odd
        if key not in FOLDERS:
            settings, cfg = check(
                path.stem, [*beside, f"{key}='{odd.replace(chr(39), '')}',b"], multirun=True, runs=False
            )
            assert OmegaConf.select(cfg, key) == odd.replace("'", "") and settings[-1].endswith("','b'")


def test_the_folder_of_a_run_may_have_a_name_that_hydra_cannot_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a ${ b", "${x}", "${seed"):
        line = commandline.read("run", [CAR, f"hydra.run.dir={name}"])
        assert line.folder == str(tmp_path / name) and line.arguments[-1] == "hydra.run.dir=."
    line = commandline.read("run", [CAR, "hydra.run.dir=a (b), c"])
    assert line.folder is None and line.arguments[-1] == "hydra.run.dir='a (b), c'"
    assert commandline.read("run", [CAR, "-m", "hydra.sweep.dir=a ${b}"]).arguments[-1] == "hydra.sweep.dir='a \\${b}'"


# Checking


def complaint(verb: str, *arguments: str) -> str:
    with pytest.raises(UserError) as raised:
        commandline.read(verb, arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_good_settings_pass() -> None:
    commandline.read("run", [CAR, "method=langevin", "method.views=3", "hydra.run.dir=somewhere", "seed=3"])
    commandline.read(
        "run", ["-m", "prompt=a red car,a blue chair", "seed=0,1", "method=sds,vsd", "method/sigma=random"]
    )
    commandline.read("train_prior", ["train.images=100"])
    commandline.read("compare", ['+lineup.variants.new=["method=sds"]', "~lineup.variants.sds", 'settings=["seed=1"]'])
    commandline.read(
        "run", [CAR, "method.leak={_target_: text23d.method.schedule.Constant, value: 0.3}", "mesh.threshold=3"]
    )


@pytest.mark.parametrize("options", [["--cfg", "job"], ["--info"], ["--hydra-help"], ["-sc"]])
def test_what_only_shows_needs_nothing(options: list[str]) -> None:
    line = commandline.read("run", ["seed=3", *options])
    assert not line.runs and line.arguments[-1] == "seed=3"


def test_options_may_stand_anywhere() -> None:
    line = commandline.read("run", [CAR, "--cfg", "job", "seed=3", "--resolve"])
    assert line.arguments == ["--cfg", "job", "--resolve", "prompt='a red car'", "seed=3"]
    assert commandline.read("run", ["seed=1,2", CAR, "-m"]).arguments[0] == "--multirun"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("promt=x", ["no setting named 'promt'", "did you mean prompt"]),
        ("method.iteration=3", ["'method.iteration'", "did you mean method.iterations"]),
        ("iterations=3", ["'iterations'", "did you mean method.iterations"]),
        ("view.elevation=[0,1]", ["'view.elevation'", "did you mean views.elevation"]),
        ("method=langvin", ["no method named 'langvin'", "did you mean langevin", "known are", "langevin"]),
        ("method=null", ["no method named 'null'", "known are ism, langevin", "vsd"]),
        ("views=4", ["no views named '4'", "did you mean method.views=4?", "known are around, bank", "one"]),
        ("method=[sds,vsd]", ["no method named '[sds,vsd]'"]),
        ("method.views=(1,", ["cannot read 'method.views=(1,'", "something like method.views=8"]),
        ("method.size={", ["cannot read 'method.size={'", "settings of its own, such as method.size."]),
        ("views.fov=[a=b]", ["cannot read 'views.fov=[a=b]'", "expected a list, as in views.fov=[1,2] or"]),
        ("method.views=" + "[" * 3000, ["cannot read 'method.views=[[", "..."]),
        ("method.inversion=ode", ["written with slashes, method/inversion=ode"]),
        ("method=sds method/inversion=ode", ["method=sds has no method/inversion"]),
        ("seed=1,2", ["'seed=1,2' is several values: add -m"]),
        ("seed=range(0,3)", ["is several values: add -m"]),
        ("-m hydra.job.chdir=true,false", ["all runs of a sweep share hydra.job.chdir"]),
        ("-m method=langevin,langvin", ["no method named 'langvin'"]),
        ("-m method=vsd,sds method.rank=3", ["not all runs of this sweep have a setting method.rank"]),
        ("+seed=3", ["seed is there already; write it without the plus"]),
        ("+views=bank", ["views has a choice already; write it without the plus"]),
        ("++views=bank", ["views has a choice already; write it without the plus"]),
        ("+foo=3", ["no setting named 'foo'"]),
        ("~views", ["~views: a choice cannot be taken away"]),
        ("~sed", ["no setting named 'sed'", "seed"]),
        ("turntable=3 turntable.size=4", ["'turntable.size=4' does not go with the other settings"]),
        ("--cfg nothing", ["argument --cfg/-c: invalid choice: 'nothing'"]),
        ("--cfg job --info", ["exclude each other"]),
        ("--cfg job -p nothing", ["--package nothing: did you mean"]),
        ("--resolve", ["--resolve goes with --cfg"]),
        ("--seed 3", ["no option '--seed'", "as in seed=3"]),
        ("--seed=3", ["no option '--seed=3'", "as in seed=3"]),
        ("--experimental-rerun x", ["no option --experimental-rerun"]),
        ("seed 3", ["'seed 3' is no setting: write seed=..., without spaces"]),
        ("prompt = x", ['write prompt="a red car", without spaces']),
        ("nonsense", ["no setting named 'nonsense'"]),
        ("hydra/launcher=joblb", ["no hydra/launcher named 'joblb'", "basic"]),
        ("hydra.rn.dir=x", ["no setting named 'hydra.rn.dir'", "hydra.run.dir"]),
        ("hydra.launcher._target_=os.system", ["hydra.launcher._target_=os.system", "Hydra's"]),
        ("+hydra.callbacks.x._target_=os.system", ["hydra.callbacks", "nothing back"]),
        ("hydra.searchpath=[/x]", ["hydra.searchpath=[/x]", "--config-dir"]),
        (
            "representation=image constraint=inpaint constraint.picture=p",
            ["no constraint.mask given: add one, for example"],
        ),
    ],
)
def test_near_misses(arguments: str, parts: list[str]) -> None:
    said = complaint("run", CAR, *arguments.split())
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("verb", "arguments", "expected"),
    [
        ("run", ["a red car"], "'a red car' is no setting: did you mean prompt=\"a red car\"?"),
        ("run", ["a", "red", "car"], "did you mean prompt=\"a red car\"?"),
        ("run", ["prompt=a", "red", "car", "seed=3"], "did you mean prompt=\"a red car\"?"),
        ("run", ["seed=3", "prompt=", "car"], "did you mean prompt=car?"),
        ("export", ["outputs/x"], "did you mean run=outputs/x?"),
        ("gallery", ["my runs"], 'did you mean runs="my runs"?'),
        ("train_prior", ["quickly"], "no setting named 'quickly'"),
        ("run", ["seed=1"], 'no prompt given: add one, for example prompt="a red car"'),
        ("run", ["-m", "seed=0,1"], "no prompt given"),
        ("export", [], "no run given: add one, for example run=outputs/"),
        ("gallery", ["views=4"], "no runs given"),
        ("run", ["prompt=a red zebra"], "the built-in prior does not know the word 'zebra'"),
        ("run", ["-m", CAR, "hydra.sweeper.max_batch_size=2"], "are written where they are set, as in seed=0,1"),
        ("run", [CAR, "prompts=x.txt"], "prompts=x.txt and prompt= exclude each other"),
        ("run", [CAR, "prior.negative=a zebra"], "does not know the word 'zebra'"),
        ("run", ["prompt="], "prompt is empty"),
        ("run", [CAR, "hydra.run.dir="], "hydra.run.dir= is empty"),
        ("run", [CAR, "-m", "hydra.sweep.dir=a ${ b"], "the folder of a sweep may hold ${ only with its }"),
    ],
)  # fmt: skip
def test_first_guesses(verb: str, arguments: list[str], expected: str) -> None:
    assert expected in complaint(verb, *arguments)


@pytest.mark.parametrize(("choice", "package"), hints.PACKAGES.items())
def test_what_is_not_installed_is_named_with_its_package(
    choice: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    for name in (choice, {"slurm": "submitit_slurm"}.get(choice, choice)):  # where it is, it is taken away
        monkeypatch.delitem(launchers, f"{name}.yaml", raising=False)
    group = {"launcher": "launcher", "sweeper": "sweeper"}.get(package.rpartition("-")[2], "job_logging")
    assert complaint("run", CAR, f"hydra/{group}={choice}").endswith(
        f"{choice} is not installed; pip install {package}"
    )


def test_another_verbs_group_does_not_shadow_a_setting() -> None:
    """`views` is a group of `run` and a number of the gallery's."""
    line = commandline.read("gallery", ["views=4", "runs=."])
    assert line.arguments == ["views=4", "runs='.'"]
    for verb in WITH_SETTINGS:
        path = config_of(verb)
        assert path is not None
        with configuration(path.parent):
            cfg = compose(path.stem, [], return_hydra_config=True)
        groups = {each.name for each in path.parent.iterdir() if each.is_dir()} - {"hydra"}
        assert not groups & {str(key) for key in cfg} - set(cfg.hydra.runtime.choices), verb


def test_other_priors_read_any_prompt() -> None:
    commandline.read("run", ["prompt=a corgi in a hat", "prior=hub"])
    commandline.read("run", ["prompt=a corgi", "prior=empirical", "prior.folder=x"])


def test_near_names_the_closest_or_some() -> None:
    assert hints.near("chiar", ["mug", "chair", "house"]) == "did you mean chair?"
    assert hints.near("zzz", ["a", "b", "a", "c", "d"]) == "did you mean a or b or c?"


def test_single_values() -> None:
    with configuration(conf_dir()):
        assert list(single_values("seed=0,1,2")) == ["seed=0", "seed=1", "seed=2"]
        assert list(single_values("prompt='a, b','c'")) == ["prompt='a, b'", "prompt='c'"]
        assert list(single_values("+seed=range(0,2)")) == ["+seed=0", "+seed=1"]
        assert list(single_values("stages=3")) == ["stages=3"] and list(single_values("a=(")) == ["a=("]
        assert list(alternatives(["a=1,2", "b=3,4"])) == [["a=1", "b=3"], ["a=2", "b=3"], ["a=1", "b=4"]]


def test_folders_that_can_be_made(tmp_path: Path) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "new" / "and" / "deep")
    (tmp_path / "taken").write_text("a file")
    for path in (tmp_path / "taken", tmp_path / "taken" / "run" / "0"):
        with pytest.raises(UserError, match=r"cannot write to the folder .*taken is not a folder"):
            check_folder(path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


# Configuration of a stranger's


EVIL = {
    "callback": "hydra: {callbacks: {x: {_target_: os.system, command: id}}}",
    "launcher": "hydra: {launcher: {_target_: os.system}}",
    "sweeper": "hydra: {sweeper: {_target_: builtins.exec}}",
    "environment": "hydra: {job: {env_set: {LD_PRELOAD: x}}}",
    "logging": "hydra: {job_logging: {version: 1, handlers: {x: {class: logging.FileHandler, filename: x}}}}",
    "folder": "hydra: {run: {dir: /etc}}",
    "chosen": "defaults: [{override /hydra/launcher: theirs}]",
}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of configuration: EVIL, something that reads the environment, and something good."""
    files = {f"mine/{name}.yaml": f"# @package _global_\n{text}\n" for name, text in EVIL.items()}
    files["mine/good.yaml"] = "# @package _global_\ndefaults: [{override /method: sds}]\nseed: 7\n"
    files["mine/reads.yaml"] = "# @package _global_\nprompt: ${oc.env:HOME}\n"
    files["hydra/launcher/theirs.yaml"] = "_target_: hydra._internal.core_plugins.basic_launcher.BasicLauncher\nx: 1\n"
    files["own.yaml"] = "defaults: [config, _self_]\nseed: 11\n"
    files["search.yaml"] = "defaults: [config, _self_]\nhydra: {searchpath: ['pkg://antigravity']}\n"
    files["broken.yaml"] = "a: [\n"
    for name, text in files.items():
        (tmp_path / "it's (a) folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "it's (a) folder" / name).write_text(text)
    return tmp_path / "it's (a) folder"


def test_a_folder_of_configuration_adds_options(theirs: Path) -> None:
    line = commandline.read("run", [CAR, "--config-dir", str(theirs), "+mine=good", "method.lr_mlp=0.01"])
    with configuration(line.config_path, str(theirs)):
        _, cfg = check(line.config_name, ["+mine=good", CAR])
    assert cfg.seed == 7 and cfg.hydra.runtime.choices.method == "sds"
    line = commandline.read("run", [CAR, "--config-dir", str(theirs), "--config-name", "own"])
    with configuration(line.config_path, str(theirs)):
        assert check(line.config_name, [CAR])[1].seed == 11
    assert "no mine named 'god': did you mean good?" in complaint("run", CAR, "-cd", str(theirs), "+mine=god")


@pytest.mark.parametrize("name", EVIL)
def test_a_folder_of_configuration_sets_nothing_of_hydras(name: str, theirs: Path) -> None:
    for option in ([], ["--cfg", "job"], ["-m"]):
        assert "hydra" in complaint("run", CAR, "-cd", str(theirs), f"+mine={name}", *option)


def test_further_roads_to_hydra_are_closed(theirs: Path) -> None:
    there = ("run", CAR, "-cd", str(theirs))
    assert "search.yaml sets hydra.searchpath" in complaint(*there, "-cn", "search")
    assert "search.yaml sets hydra.searchpath" in complaint("run", CAR, "-cn", str(theirs / "search"))
    assert "search.yaml sets hydra.searchpath" in complaint("run", CAR, "-cp", str(theirs), "-cn", "search.yaml")
    assert "only Hydra and its plugins may say what this is" in complaint(*there, "hydra/launcher=theirs")
    assert "cannot read" in complaint(*there, "-cn", "broken")
    assert "no folder" in complaint("run", CAR, "-cd", str(theirs / "none"))


def test_a_folder_of_configuration_reads_no_environment(theirs: Path) -> None:
    assert "reads no environment" in complaint("run", "-cd", str(theirs), "+mine=reads")


# Help


@pytest.mark.parametrize("verb", WITH_SETTINGS)
def test_help_names_every_group_and_every_setting(verb: str) -> None:
    path, text = config_of(verb), manual.page(verb, cli.VERBS[verb])
    assert path is not None
    assert text.startswith(f"usage: text23d {verb} ") and cli.VERBS[verb] in text
    with configuration(path.parent):
        cfg = compose(path.stem, [], return_hydra_config=True)
    for group, option in cfg.hydra.runtime.choices.items():
        files = list((path.parent / group).glob("*.yaml"))
        if not group.startswith("hydra") and "@" not in group and len(files) > 1:
            assert all(f"\n  {group}={each.stem}" in text for each in files), group
            assert f"\n  {f'{group}={option}':<38}(default)" in text, group
    mesh = set(cfg.mesh) if verb == "run" else set()
    for key in {str(key) for key in cfg} - {"hydra", *cfg.hydra.runtime.choices} | mesh:
        assert f"  {key}:" in text, key


def test_verbs_have_a_line_each() -> None:
    lines = manual.overview(cli.VERBS).splitlines()
    assert all(any(line.split()[:1] == [verb] for line in lines) for verb in cli.VERBS)


# Nonsense, drawn


def nonsense(rng: random.Random, keys: list[str]) -> list[str]:
    """A command line of a few settings, with values that nobody means."""
    atoms = [
        "nan",
        "-1",
        "null",
        "[1,",
        "{a: 1}",
        "${",
        "${oc.env:HOME}",
        "a,b",
        "'",
        '"',
        "(",
        "=",
        "ü",
        "/",
        "\\",
        "\n",
    ]
    atoms += ["range(0,3)", "glob(*)", "foo(1)", "1e", "sds", "a@b", ":", "[" * 400, "x" * 300, "_target_", "tag(a,1)"]
    found = []
    for _ in range(rng.randint(1, 3)):
        key = (
            rng.choice(["", "", "", "+", "++", "~"]) + rng.choice(keys) + rng.choice(["", "", "", "", ".x", "/y", "@z"])
        )
        found.append(f"{key}={''.join(rng.choices(atoms, k=rng.randint(0, 2)))}" if rng.random() < 0.9 else key)
    return [*found, *rng.choice([[], [], ["-m"], ["--cfg", "job"], ["-p", "x"], ["--resolve"], ["-x"]])]


INSIDES = ("Viable", "mismatched", "extraneous", "token recog", "Lexer", "not supported", "full_key", "reference_type",
           "object_type", "defaults list", "omegaconf", "OmegaConf", "DictConfig", "ListConfig", "<class")  # fmt: skip


@pytest.mark.parametrize("verb", ["run", "gallery", "compare"])
def test_nonsense_is_told_in_one_line(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = config_of(verb)
    assert path is not None
    with configuration(path.parent):
        plain: Any = OmegaConf.to_container(compose(path.stem))
    rng, keys = random.Random(verb), [*dict(flat(plain)), "hydra.run.dir", "hydra/launcher", "views", "method/sigma"]
    refused = 0
    for _ in range(25):
        arguments = nonsense(rng, keys)
        try:
            commandline.read(verb, [CAR, *arguments] if verb == "run" else arguments)
        except UserError as error:
            refused += 1
            said = " ".join(str(error).split())
            assert 10 < len(said) < 1000 and not [inside for inside in INSIDES if inside in said], (arguments, said)
    assert refused > 10 and list(tmp_path.iterdir()) == []

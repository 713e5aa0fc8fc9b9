"""Settings as data: values are checked against annotations; only classes of our own are built, each in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import isclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import torch
import yaml

from text23d.compose import compose
from text23d.engine.build import build_run
from text23d.engine.job import JobSettings
from text23d.engine.recipe import LangevinRecipe
from text23d.errors import UserError
from text23d.method.invert import FixedPoint, Inverter, Naive
from text23d.method.langevin import LevelPreserving, Scheme
from text23d.method.proposal import Method
from text23d.method.schedule import Constant, Linear, Piecewise, Random, Schedule
from text23d.paths import conf_dir
from text23d.representation.hashgrid import HashGrid
from text23d.representation.nerf import Nerf
from text23d.representation.views import FixedCamera
from text23d.settings import (
    TARGET,
    Count,
    Finite,
    Flag,
    Natural,
    NonNegative,
    Positive,
    Seed,
    Share,
    Text,
    build,
    checked,
    described,
    number,
    parameters_of,
    read,
    shown,
    targets,
    whole,
)

NAN, INF = float("nan"), float("inf")
INSIDES = ("pydantic", "Error", "Traceback", "NoneType", "object at 0x", "<class", "'<", "typing.", "\n")
SCHEDULE = "text23d.method.schedule"


def refusal(value: Any, annotation: Any) -> str:
    """The line that refuses `value`, which says what was given and nothing of Python's insides."""
    with pytest.raises(UserError) as raised:
        checked(value, annotation, "a.key")
    line = str(raised.value)
    assert line.startswith("a.key") and "expected" in line and not any(word in line for word in INSIDES), line
    return line


def refuse(annotation: Any, ending: str, *values: Any) -> None:
    for value in values:
        assert refusal(value, annotation).endswith(ending)


# Values

NOT_NUMBERS: list[Any] = [
    *(NAN, INF, -INF, True, False, None, "1", "high", "", "nan", b"1", [], [1], (1.0,), {}, {"a": 1}, 1j),
    *(10**400, -(10**400), {1, 2}),
]
GOOD: dict[str, tuple[Any, list[Any]]] = {
    "Count": (Count, [1, 2**31 - 1]),
    "Natural": (Natural, [0, 7]),
    "Seed": (Seed, [0, 2**63 - 1]),
    "whole": (Annotated[int, whole(16, 32)], [16, 32]),
    "Finite": (Finite, [-1e300, 0, 3, 1e300]),
    "Positive": (Positive, [1e-300, 1, 1e300]),
    "NonNegative": (NonNegative, [0, 0.0, 5]),
    "Share": (Share, [0, 0.5, 1]),
    "number": (Annotated[float, number(above=0, below=1)], [1e-9, 0.999]),
}
OUTSIDE: dict[str, list[Any]] = {
    "Count": [0, -1, 1.0, 1.5, 2**31, 10**20],
    "Natural": [-1, 0.0, 2**31],
    "Seed": [-1, 2**63, 100000000000000000000, 1e3],
    "whole": [15, 33, 16.0],
    "Finite": [],
    "Positive": [0, 0.0, -1e-300],
    "NonNegative": [-1e-300, -1],
    "Share": [-0.001, 1.001],
    "number": [0, 1, -1, 2],
}


@pytest.mark.parametrize("name", GOOD)
def test_numbers(name: str) -> None:
    annotation, good = GOOD[name]
    for value in good:
        found = checked(value, annotation, "a.key")
        assert found == value and type(found) in (int, float)
    for value in [*OUTSIDE[name], *NOT_NUMBERS]:
        assert f"a.key={shown(value)}: expected {described(annotation)}" == refusal(value, annotation)


def test_flags_text_choices_and_null() -> None:
    assert checked(True, Flag, "a.key") is True
    refuse(Flag, "expected true or false", 1, 0, 1.0, 1e308, "true", "yes", None, [])
    kind = Literal["full", "none"]
    assert checked("none", kind, "a.key") == "none"
    refuse(kind, "expected one of full, none", "half", "", None, 5, True, ["full"])
    assert checked("", str, "a.key") == "" and checked(None, str | None, "a.key") is None
    refuse(str, "expected text", 5, 1.5, True, ["a"], {"a": "b"})
    refuse(str | None, "expected text or null", 5, 1.5, True, ["a"], {"a": "b"})
    refuse(str, "a.key=null: expected text", None)
    assert checked("\udcff.png", str, "a.key") == "\udcff.png", "a name of a file may be any bytes"
    assert checked("ein Rösti, 車", Text, "a.key") == "ein Rösti, 車"
    refuse(Text, "expected text in UTF-8", "\ud800", "a car\udcff", None, 5)


def test_lists() -> None:
    pair, many = tuple[Finite, Finite], tuple[Positive, ...]
    assert checked([1, 2.5], pair, "a.key") == (1.0, 2.5) and checked((1, 2), pair, "a.key") == (1.0, 2.0)
    refuse(pair, "expected [a number, a number]", [], [1], [1, 2, 3], [1, NAN], [1, None], [1, True], [1, "2"])
    refuse(pair, "expected [a number, a number]", "12", 5, None, {"a": 1}, [[1, 2]])
    assert checked([], many, "a.key") == () and checked([1, 2, 3], many, "a.key") == (1.0, 2.0, 3.0)
    refuse(many, "a list of a number above 0", [0], [1, INF], ["a"], [[1]], [{TARGET: "os.system"}], 1, "1")
    stages = tuple[tuple[Share, Finite], ...]
    assert checked([[0, 32], [0.4, 64]], stages, "a.key") == ((0.0, 32.0), (0.4, 64.0))
    refuse(stages, "1, a number]", [0, 32], [[0, 32, 1]], [[2, 32]], [[0, [32]]], [[1, [2]]], 7)


def test_alternatives() -> None:
    either = NonNegative | Schedule
    assert checked(0.5, either, "a.key") == 0.5
    made = checked({TARGET: f"{SCHEDULE}.Linear", "start": 2, "end": 1}, either, "a.key")
    assert made == Linear(2.0, 1.0)
    refuse(either, "or a choice of its group", NAN, INF, -1, [1, 2], "linear", None, {"start": 2, "end": 1}, True)


def test_what_is_long_deep_or_broken_over_lines_is_shown_by_its_beginning() -> None:
    assert shown({"a": [1, None, True, NAN], "b": "x\ny"}) == "{a: [1, null, true, nan], b: x y}"
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    bomb: Any = ["a"] * 8
    for _ in range(200):
        bomb = [bomb] * 8
    loop: list[Any] = []
    loop.append(loop)
    for value in ("x" * 10**6, list(range(10**5)), deep, bomb, loop, {str(i): i for i in range(10**4)}):
        assert len(refusal(value, Positive)) < 10_000


# Sections


@dataclass(frozen=True)
class Inner:
    side: Annotated[int, whole(1, 9)]
    name: str = "none"


@dataclass(frozen=True)
class Outer:
    inner: Inner
    share: Share = 0.5
    other: Inner | None = None


def test_sections_are_dataclasses() -> None:
    assert read(Outer, {"inner": {"side": 3}, "unknown": 1}) == Outer(Inner(3)), "others' keys are theirs"
    assert read(Outer, {"inner": {"side": 3}, "other": {"side": 4, "name": "b"}}).other == Inner(4, "b")
    for section, line in {
        "{}": "no inner given: add inner=...",
        "{inner: {}}": "no inner.side given: add inner.side=...",
        "{inner: {side: 10}}": "inner.side=10: expected a whole number, 1 to 9",
        "{inner: {side: 1, sides: 2}}": "no setting named inner.sides: expected side, name",
        "{inner: {side: 1, 5: 2}}": "no setting named inner.5: expected side, name",
        "{inner: null}": "inner=null: expected a choice of its group",
        "{inner: 5}": "inner=5: expected a choice of its group",
        "{inner: {side: 1}, share: .nan}": "share=nan: expected a number at least 0 and at most 1",
        "{inner: {side: 1}, other: [1]}": "other=[1]: expected a choice of its group or null",
    }.items():
        with pytest.raises(UserError) as raised:
            read(Outer, yaml.safe_load(section))
        assert str(raised.value) == line
    wrong: Any
    for wrong in (None, 5, "text", [1]):
        with pytest.raises(UserError, match=r"^mesh=.*: expected a section of settings$"):
            read(Outer, wrong, "mesh.")


# What is built

HOSTILE: list[Any] = [
    "torch.load",
    "numpy.load",
    "torch.hub.load",
    "sympy.parsing.sympy_parser.parse_expr",
    "distutils.spawn.spawn",
    "pathlib.Path.unlink",
    "pathlib.Path",
    "os.system",
    "os.remove",
    "posix.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    "subprocess.run",
    "shutil.rmtree",
    "pickle.loads",
    "importlib.import_module",
    "runpy.run_path",
    "hydra.utils.instantiate",
    "text23d.files.write_text",
    "text23d.settings.import_module",
    "text23d.settings.build",
    "text23d.engine.job.execute",
    "text23d.engine.folder.clear",
    "text23d.method.baselines.VSD",
    "text23d.method.langevin.Scheme",
    "text23d.representation.occupancy.Occupancy",
    "text23d.representation.nerf.Nerf.load_state_dict",
    "text23d.representation.nerf.torch.load",
    "text23d.representation.nerf.Nerf ",
    "text23d.representation.nerf.nerf",
    "text23d..representation.nerf.Nerf",
    "text23d.representation.nerf.Nerf\ntext23d.files.write_text",
    "Nerf",
    *("", ".", None, 5, True, 1.5, [], ["text23d.representation.nerf.Nerf"], {}, {TARGET: "os.system"}),
]
ARGUMENTS = {"_args_": ["true"], "path": "mark", "file": "mark", "text": "x", "command": "true", "self": "mark"}


@pytest.mark.parametrize("target", HOSTILE, ids=str)
@pytest.mark.parametrize("arguments", [{}, ARGUMENTS, {"_partial_": True}, {"_convert_": "all"}])
def test_nothing_else_is_built(
    target: Any, arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mark").write_text("here")
    evil = {TARGET: target, **arguments}
    nerf, random = f"{Nerf.__module__}.Nerf", f"{SCHEDULE}.Random"
    low = {TARGET: f"{SCHEDULE}.Constant", "value": 1.0}
    places: list[tuple[Any, Any, str]] = [
        (evil, Any, "run"),
        ({TARGET: nerf, "encoding": evil}, Any, "run.encoding"),
        ({TARGET: nerf, "hidden": evil}, Any, "run.hidden"),
        ({TARGET: random, "low": evil, "high": low}, Any, "run.low"),
        ({TARGET: random, "low": {TARGET: random, "low": low, "high": evil}, "high": low}, Any, "run.low.high"),
        ({TARGET: f"{SCHEDULE}.Piecewise", "stages": evil}, Any, "run.stages"),
    ]
    for node, kind, where in places:
        with pytest.raises(UserError) as raised:
            build(node, "run", kind)
        line = str(raised.value)
        assert line.startswith(f"{where}.{TARGET}={shown(target)}: expected one of the classes that"), line
        assert "\n" not in line
    assert Path("mark").read_text() == "here" and [each.name for each in Path().iterdir()] == ["mark"]


def test_hydras_own_words_are_settings_that_do_not_exist() -> None:
    for word in ("_partial_", "_args_", "_convert_", "_recursive_", "return", "self", "generator", "dtype", 5, None):
        with pytest.raises(UserError, match="no setting named run"):
            build({TARGET: f"{HashGrid.__module__}.HashGrid", word: None}, "run")


def test_a_right_class_in_a_wrong_place() -> None:
    nerf: dict[str, Any] = {TARGET: f"{Nerf.__module__}.Nerf"}
    constant: dict[str, Any] = {TARGET: f"{SCHEDULE}.Constant", "value": 1.0}
    naive = {TARGET: f"{Naive.__module__}.Naive"}
    scheme = {TARGET: f"{LevelPreserving.__module__}.LevelPreserving"}
    recipe = f"{LangevinRecipe.__module__}.LangevinRecipe"
    for name, node in {"leak": nerf, "inversion": constant, "langevin": naive, "h": scheme, "optimizer": naive}.items():
        line = rf"^method\.{name}\._target_={node[TARGET]}: expected .*a choice of its group( or null)?$"
        with pytest.raises(UserError, match=line):
            build({TARGET: recipe, name: node}, "method")
    with pytest.raises(UserError, match=r"^x\.encoding\._target_=.*Nerf: expected a choice of its group or null$"):
        build({**nerf, "encoding": nerf}, "x")
    for name in ("sigma", "size"):
        with pytest.raises(UserError, match=rf"^method\.{name}\._target_="):
            build({TARGET: recipe, name: naive}, "method")
    with pytest.raises(UserError, match=r"^x\._target_=.*task: expected a choice of its group$"):
        build({TARGET: "text23d.tasks.object.task"}, "x", torch.nn.Module)
    assert isinstance(build(naive, "x", Inverter), Naive) and isinstance(build(scheme, "x", Scheme), LevelPreserving)
    for kind in (Method, Scheme, Schedule):
        with pytest.raises(UserError):
            build(naive, "x", kind)


def test_a_class_in_a_wrong_place_is_refused_before_it_is_made() -> None:
    """A chain of schedules that doubles at each level would take for ever to make."""
    chain: dict[str, Any] = {TARGET: f"{SCHEDULE}.Constant", "value": 1.0}
    for _ in range(80):
        chain = {TARGET: f"{SCHEDULE}.Random", "low": chain, "high": chain}
    with pytest.raises(UserError, match=r"^x\.encoding\._target_="):
        build({TARGET: f"{Nerf.__module__}.Nerf", "encoding": chain}, "x")


def test_what_is_given_cannot_be_said() -> None:
    node = {TARGET: "text23d.tasks.object.task", "settings": {}}
    with pytest.raises(UserError, match=r"^no setting named task\.settings: expected none$"):
        build(node, "task", settings={})


# The packaged configuration

FREE = {"self", "return", "generator", "dtype", "request", "settings"}
"""What a configuration does not say."""


def nodes(value: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Every mapping with a `_target_`, and what it is called."""
    inside = value.items() if isinstance(value, Mapping) else ()
    own = [(where, dict(value))] if isinstance(value, Mapping) and TARGET in value else []
    return own + [found for key, each in inside for found in nodes(each, f"{where}:{key}")]


PACKAGED = [
    found
    for path in sorted(conf_dir().rglob("*.yaml"))
    for found in nodes(yaml.safe_load(path.read_text(encoding="utf-8")), path.relative_to(conf_dir()).as_posix())
]


def hints_of(target: str) -> dict[str, Any]:
    module, _, name = target.rpartition(".")
    return parameters_of(getattr(import_module(module), name))


def is_loose(annotation: Any) -> bool:
    """Whether anything at all, or a number without limits, would do."""
    if get_origin(annotation) is Annotated:
        return False
    return annotation in (Any, int, float, bool, object) or any(map(is_loose, get_args(annotation)))


def test_the_walk_finds_what_there_is() -> None:
    assert {node[TARGET] for _, node in PACKAGED} == targets()
    assert len(targets()) > 30 and all(each.startswith("text23d.") for each in targets())
    loose: list[Any] = [int, float, Any, bool, int | None, tuple[float, float], Schedule | float]
    assert all(map(is_loose, loose)) and not any(map(is_loose, [Finite, str, Flag, tuple[Finite, ...], str | None]))


@pytest.mark.parametrize("target", sorted(targets()))
def test_all_settings_of_what_is_built_are_checked(target: str) -> None:
    """Those that our files name, and those that a person may add."""
    hints = hints_of(target)
    named = {key for _, node in PACKAGED if node[TARGET] == target for key in node} - {TARGET, "defaults"}
    assert named <= hints.keys()
    langevin = target.startswith("text23d.method.langevin.")  # their h is the schedule's
    loose = {name for name, each in hints.items() if name not in FREE and is_loose(each)}
    assert loose == ({"h"} if langevin else set())


@pytest.mark.parametrize(("where", "node"), PACKAGED, ids=[where for where, _ in PACKAGED])
def test_all_packaged_values_serve(where: str, node: dict[str, Any]) -> None:
    hints = hints_of(node[TARGET])
    for name, value in node.items():
        if name not in (TARGET, "defaults") and value != "???" and "${" not in str(value):
            checked(value, hints[name], f"{where}.{name}")


# What a person may say


def refused(prior: Path, *overrides: str) -> str:
    """The line that refuses a run with these overrides, before it is built."""
    weights = () if any(each.startswith(("prior=", "prior.", "~prior")) for each in overrides) else (f"prior.{prior}",)
    with pytest.raises(UserError) as raised:
        cfg = compose("config", ["prompt=a red car", *weights, *overrides])
        read(JobSettings, cfg)
        build_run(cfg, torch.device("cpu"))
    line = str(raised.value)
    assert not any(word in line for word in INSIDES), line
    return line


NEGATIVE = "{_target_: text23d.method.schedule.Constant, value: -1}"
FAULTS = {
    "representation=nerf representation.blob=nan": "representation.blob=nan: expected a number at least -1000",
    "representation.steps=inf": "representation.steps=inf: expected a whole number, 1 to 1024",
    "representation.steps=1000000": "representation.steps=1000000: expected",
    "representation=nerf representation.gain=0": "representation.gain=0: expected a number above 0",
    "representation=nerf representation.gain=nan": "representation.gain=nan: expected",
    "representation.hidden=10000000": "representation.hidden=10000000: expected a whole number, 1 to 1024",
    "+representation.radius=0": "representation.radius=0: expected",
    "+representation.refresh=0": "representation.refresh=0: expected a whole number",
    "+representation.generator=5": "no setting named representation.generator: expected encoding, hidden",
    "representation.encoding=5": "representation.encoding=5: expected a choice of its group",
    "representation.encoding.levels=1": "representation.encoding.levels=1: expected a whole number, 2 to 64",
    "representation.encoding.finest=4": "a hash grid from base=8 to finest=4",
    "representation.encoding.log2_table=31": "representation.encoding.log2_table=31: expected",
    "representation.encoding.levels=64 representation.encoding.log2_table=30 representation.encoding.features=64 "
    "representation.encoding.finest=1000": "lower log2_table, levels or features",
    "representation=image representation.size=0": "representation.size=0: expected a whole number, 1 to 4096",
    "representation=image representation.start=5": "representation.start=5: expected text or null",
    "representation=mlp_image representation.size=4096 representation.hidden=1024 representation.start=no.png": (
        "lower size, features or hidden"
    ),
    "representation=mlp_image representation.bandwidth=nan": "representation.bandwidth=nan: expected a number above 0",
    "representation=mlp_image representation.features=0": "representation.features=0: expected",
    "representation=image task=object": "task=object with representation PixelImage: expected Nerf",
    "representation=image views=around": "an image is seen by one camera",
    "task=picture": "task=picture with representation SdfNerf: expected PixelImage or MlpImage",
    "prior.guidance=inf": "prior.guidance=inf: expected a number at least 0",
    "prior.guidance=high": "prior.guidance=high: expected a number at least 0",
    "prior.guidance=-1": "prior.guidance=-1: expected a number at least 0",
    "prior.weights=5": "prior.weights=5: expected text or null",
    "prior.weights=/nowhere/at.all": "no file /nowhere/at.all",
    "prior.auxiliary=half": "prior.auxiliary=half: expected one of full, camera, none",
    "prior.precision=float16": "prior.precision=float16: expected one of auto, float32, bfloat16",
    "prior=empirical": "prior.folder=null: no such folder",
    "prior=empirical prior.folder=5": "prior.folder=5: expected text or null",
    "method.leak=nan": "method.leak=nan: expected a number at least 0",
    "method.leak=[1,2]": "method.leak=[1, 2]: expected a number at least 0",
    f"method.leak={NEGATIVE}": "method.leak=-1.0: expected a number at least 0",
    "method.lr_grid=inf": "method.lr_grid=inf: expected a number above 0",
    "method.lr_grid=true": "method.lr_grid=true: expected a number above 0",
    "method.lr_mlp=99999999999": "method.lr_mlp=99999999999: expected a number above 0",
    "method.lr_end=nan": "method.lr_end=nan: expected",
    "method.ema=[[1,[2]]]": "method.ema=[[1, [2]]]: expected a number at least 0 and below 1",
    "method.ema=1": "method.ema=1: expected",
    "method.inversion.shell=1e308": "method.inversion.shell=1e+308: expected true or false",
    "method.inversion.rho=inf": "method.inversion.rho=inf: expected a number above 0",
    "method.inversion.steps=-1": "method.inversion.steps=-1: expected a whole number",
    "method.inversion.memory=1.5": "method.inversion.memory=1.5: expected a whole number",
    "method.inversion=naive": "method.inversion=naive: expected a choice of its group",
    "method.langevin=null": "method.langevin=null: expected a choice of its group",
    "method/langevin=null": "no method/langevin named 'null': known are euler_maruyama",
    "method/inversion=ode method.inversion.solver=rk4": "method.inversion.solver=rk4: expected one of euler, heun",
    "method/inversion=ode method.inversion.sigma_min=0": "method.inversion.sigma_min=0: expected",
    "method/inversion=backprop method.inversion.lr=1e308": "method.inversion.lr=1e+308: expected",
    "method.h=0.3": "method.h=0.3: expected a choice of its group",
    "method.h.start=5": "Langevin step h = 5",
    "method.churn=0": "method.churn=0: expected a whole number",
    "method.levels=[]": "levels = []: expected shares of sigma",
    "method.levels=[1.0,0]": "method.levels=[1.0, 0]: expected a list of a number above 0",
    "method.renorm=1": "method.renorm=1: expected true or false",
    "method.loss=latents": "method.loss=latents: expected one of prior, pixels",
    "method.views=0": "method.views=0: expected a whole number, 1 to 16384",
    "method.iterations=1.5": "method.iterations=1.5: expected a whole number",
    "method.inner=10000000000": "method.inner=10000000000: expected a whole number",
    "method.size.stages=[[0,8192]]": "method.size=8192.0: expected a whole number of pixels, 1 to 1024",
    "method.size.stages=[[0,32.5]]": "method.size=32.5: expected a whole number of pixels",
    "method.size.stages=[[0,32],[0.999,8192]]": "method.size=8192.0: expected",
    "method.size.stages=[[0.5,32]]": "stages start at [0.5]: expected rising numbers",
    "method.size.stages=7": "method.size.stages=7: expected a list of",
    "method.sigma.start=1e300": "method.sigma=1e+300: expected a number above 0 and at most 1000",
    "method.sigma.start=0.1": "a schedule from 0.1 (maximum) to 1.0 (minimum)",
    "method/sigma=constant method.sigma.value=-1": "method.sigma=-1.0: expected a number above 0",
    "method/sigma=constant method.sigma.value=0": "method.sigma=0.0: expected a number above 0",
    "method/sigma=random method.sigma.low.start=9": "a random schedule from 9",
    "method/sigma=random method.sigma.together=1": "method.sigma.together=1: expected true or false",
    "method=vsd method.rank=100000000": "method.rank=100000000: expected a whole number, 1 to 512",
    "method=ism method.strategy.interval=1": "method.strategy.interval=1: expected a number above 0 and below 1",
    "method=sdi method.strategy.guidance=-inf": "method.strategy.guidance=-inf: expected a number",
    "method.optimizer.betas=null": "method.optimizer.betas=null: expected [a number at least 0 and below 1, a number",
    "method.optimizer.betas=[0.9]": "method.optimizer.betas=[0.9]: expected [a number",
    "method.optimizer.eps=1.5": "method.optimizer.eps=1.5: expected a number above 0",
    "method/optimizer=sgd method.optimizer.momentum=nan": "method.optimizer.momentum=nan: expected a number",
    "method/optimizer=replace": "method/optimizer=replace: expected a representation that has pixels",
    "views.elevation=[50,-10]": "camera elevation is (50.0, -10.0); expected two numbers",
    "views.elevation=[1,2,3]": "views.elevation=[1, 2, 3]: expected [a number, a number]",
    "views.distance=[1,1e300]": "camera distance is (1.0, 1e+300); expected two numbers",
    "views=one views.azimuth=1e300": "views.azimuth=1e+300: expected a number at least -360 and at most 360",
    "views=one views.distance=1e300": "camera distance is (1e+300, 1e+300); expected two numbers",
    "views=bank views.count=1000000000": "views.count=1000000000: expected a whole number, 1 to 65536",
    "constraint=reference constraint.picture=5": "constraint.picture=5: expected text",
    "constraint=reference constraint.picture=a.png constraint.weight=nan": "constraint.weight=nan: expected a number",
    "constraint=reference constraint.picture=a.png constraint.azimuth=1e300": "constraint.azimuth=1e+300: expected",
    "constraint=reference constraint.picture=a.png constraint.size=10000": "constraint.size=10000: expected",
    "constraint=[1,2]": "no constraint named '[1,2]': known are ",
    "task=null": "no task named 'null': known are ",
    "method=5": "no method named '5': known are ism",
    "=5": "no setting named '=5'",
    "seed=100000000000000000000": "seed=100000000000000000000: expected a whole number, 0 to 9223372036854775807",
    "seed=-1": "seed=-1: expected a whole number",
    "seed=1.0": "seed=1.0: expected a whole number",
    "prompt=null": "prompt=null: expected text",
    "prompt=5": "prompt=5: expected text",
    "stages=10000000000": "stages=10000000000: expected a whole number",
    "stages=0": "stages=0: expected a whole number",
    "device=[cpu]": "device=[cpu]: expected one of auto, cpu, cuda",
    "backend=fast": "backend=fast: expected one of auto, native, torch",
    "outputs=some": "outputs=some: expected one of all, minimal",
    "turntable.size=65536": "turntable.size=65536: expected a whole number, 16 to 2048",
    "turntable.size=100": "turntable.size=100: expected a number divisible by 16",
    "turntable.frames=0": "turntable.frames=0: expected a whole number, 1 to 10000",
    "mesh.threshold=99999999999": "mesh.threshold=99999999999: expected a number above 0",
    "mesh.unwrap_seconds=1e300": "mesh.unwrap_seconds=1e+300: expected a number above 0",
    "mesh.texture=1000000": "mesh.texture=1000000: expected a whole number",
    "mesh.scale=1e-300": "mesh.scale=1e-300: expected a number",
    "mesh.format=stl": "mesh.format=",
    "mesh.format=[]": "mesh.format=[]: expected one or more of glb, obj, ply",
    "turntable=null": "turntable=null: expected a section of settings",
    "method._target_=text23d.representation.nerf.Nerf": "method._target_=text23d.representation.nerf.Nerf: expected",
    "task._target_=text23d.representation.nerf.Nerf": "task._target_=text23d.representation.nerf.Nerf: expected",
    "prior._target_=text23d.tasks.object.task": "prior._target_=text23d.tasks.object.task: expected",
    "world._target_=text23d.method.baselines.SDS": "world._target_=text23d.method.baselines.SDS: expected",
    "views._target_=os.system": "views._target_=os.system: expected one of the classes",
    "representation._target_=text23d.tasks.object.task": "representation._target_=text23d.tasks.object.task: expected",
    "~method": "method=null: expected a choice of its group, as in method=<name>",
    "~task": "task=null: expected a choice of its group",
    "~views": "views=null: expected a choice of its group",
    "~world": "world=null: expected a choice of its group",
    "~prior": "prior=null: expected a choice of its group",
    "~representation": "representation={}: expected a choice of its group",
}


@pytest.mark.parametrize("overrides", FAULTS)
def test_faults_are_one_line(overrides: str, tiny_prior: Path) -> None:
    words = [overrides] if "{" in overrides else overrides.split()
    assert FAULTS[overrides] in refused(Path(f"weights={tiny_prior}"), *words)


def test_schedules_are_checked_all_along() -> None:
    """A run would otherwise meet its last values at its end."""
    for name, stages, line in (
        ("h", [[0, 0.3], [1, 3]], "Langevin step h = 3"),
        ("leak", [[0, 0.3], [1, -3]], r"^method\.leak=-3"),
        ("sigma", [[0, 1], [0.5, -1], [0.6, 1]], r"^method\.sigma=-1"),
        ("size", [[0, 32], [0.995, 0]], r"^method\.size=0"),
    ):
        schedule = {TARGET: f"{SCHEDULE}.Piecewise", "stages": stages}
        with pytest.raises(UserError, match=line):
            build({TARGET: f"{LangevinRecipe.__module__}.LangevinRecipe", name: schedule}, "method")


def test_a_run_without_optional_sections_is_built(tiny_prior: Path) -> None:
    weights = f"prior.weights={tiny_prior}"
    for overrides in (
        ["~constraint"],
        ["~turntable", "~mesh"],
        ["+foo=1"],
        ["method.views=1", "views=one"],
        ["representation.encoding=null"],
    ):
        state, _ = build_run(compose("config", ["prompt=a red car", weights, *overrides]), torch.device("cpu"))
        assert isinstance(state.phi, Nerf)


def test_defaults_of_constructors_are_their_own_settings() -> None:
    """A default that its annotation refuses could not be written down."""
    for target in sorted(targets()):
        module, _, name = target.rpartition(".")
        made: Any = getattr(import_module(module), name)
        function = made.__init__ if isclass(made) else made
        hints = {key: each for key, each in hints_of(target).items() if key != "return"}
        values = dict(zip(reversed(list(hints)), reversed(function.__defaults__ or ()), strict=False))
        for key, value in values.items():
            if isinstance(value, int | float | str | bool) and key in hints:
                checked(value, hints[key], f"{target}.{key}")


def test_values_arrive() -> None:
    piecewise = build({TARGET: f"{SCHEDULE}.Piecewise", "stages": [[0, 32], [0.4, 64]]}, "x", Schedule)
    assert piecewise == Piecewise(((0.0, 32.0), (0.4, 64.0))) and piecewise(0.39) == 32 and piecewise(0.4) == 64
    assert build({TARGET: f"{FixedPoint.__module__}.FixedPoint", "rho": 1}, "x") == FixedPoint(rho=1.0)
    assert build({TARGET: f"{FixedCamera.__module__}.FixedCamera", "azimuth": 7}, "x") == FixedCamera(7.0)
    low, high = ({TARGET: f"{SCHEDULE}.Constant", "value": value} for value in (1, 2))
    made = build({TARGET: f"{SCHEDULE}.Random", "low": low, "high": high}, "x")
    assert made == Random(Constant(1.0), Constant(2.0))

"""The door that every verb goes through: `text23d <verb> key=value ...`, mistakes told in one line, ends by signals.

Exit status: 0 done, 1 a defect of ours (with a traceback), 2 the user's mistake, 128 + n ended by signal n (130 by
Ctrl-C). Nothing but the standard library is imported here before the command line is read: a mistake is told, and
Ctrl-C heard, while torch is not there yet.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from text23d import __version__
from text23d.company import following, shared
from text23d.errors import RankError, UserError
from text23d.interruption import ended_by, interrupt, leave, watch

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

STARTED = time.perf_counter()
"""When the process began, nearly: what a person waits for includes the imports that follow."""
VERBS = {
    "run": "makes an object, or a picture, from a prompt",
    "export": "writes the mesh of a finished run again, in other formats and sizes",
    "view": "shows a run, finished or on its way, in the browser, or records it as a page",
    "gallery": "puts all finished runs below a folder into one table and one picture",
    "vocabulary": "lists the words that a prompt for the built-in prior may use",
    "world": "draws sheets of the toy box that the built-in prior learned from",
    "evaluate": "scores the prior's samples and 3-D runs over a suite of prompts",
    "compare": "compares variants of a run at equal cost",
    "sampling": "compares Algorithm 1 with Heun's sampler on single pictures",
    "dataset": "makes posed pictures, masks, depths, normals and meshes of many prompts, for others to learn from",
    "strips": "compares ways of making panoramas, videos and sounds at equal cost",
    "serve": "makes what is asked for in the browser or over HTTP, from a queue",
    "benchmark": "measures the kernels, the networks and an iteration",
    "train_prior": "trains the built-in prior",
    "train_judge": "trains the classifier that scores results",
    "doctor": "examines this machine and this installation, and says whether a run would work",
}
"""The modules of text23d that a person runs, and what each does."""
SHARED = ("run", "train_prior", "train_judge")
"""Those that several processes of torchrun do together."""
PATIENCE = 10.0
"""Seconds in which the first of them tells a mistake that all have met, and torchrun ends the others."""


def main(verb: str | None = None) -> NoReturn:
    """Run `verb`, or the one that the command line names first, with the rest of the command line; then exit."""
    watch(leave)
    if shared():
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what ends another process is told in one line, by us
    if hasattr(os, "register_at_fork"):  # a forked worker has nothing to keep, and its pool ends it by SIGTERM
        os.register_at_fork(after_in_child=lambda: watch(signal.SIG_DFL))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a letter is no reason to stop
    try:
        check_surroundings(sys.argv[1:])
        arguments = sys.argv[1:]
        if verb is None:
            verb, *arguments = choose(arguments)
        status = perform(verb, arguments)
        sys.stdout.flush()
    except SystemExit as error:
        status = error.code
    except BaseException as error:
        status = told(error)
    watch(signal.SIG_DFL)  # an exception while the interpreter ends would be lost, and leave a traceback
    sys.exit(status)


def told(error: BaseException) -> int:
    """Say in one line what ended the verb, and return the exit status. Raises what is a defect of ours again."""
    if isinstance(error, KeyboardInterrupt) or (ended_by and not isinstance(error, RankError)):
        # Whatever was raised since a signal, as an import that was cut short may, it was the cause.
        own = isinstance(error, KeyboardInterrupt) and str(error)
        status = 128 + (ended_by[0] if ended_by else signal.SIGINT)
        return status if following() else say(own or "interrupted", status)
    if isinstance(error, BrokenPipeError):  # as of text23d vocabulary | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13
    if not is_mistake(error):
        raise error
    return mistaken(error)


def mistaken(error: BaseException) -> int:
    """Say what `is_mistake`. Of several processes the first says it, and the others have met the same, unless it does
    not: one that names its process has waited already."""
    if following():
        if not isinstance(error, RankError):
            time.sleep(PATIENCE)
        print(file=sys.stderr)  # below the bar of the first
    return say(sentence(error), 2)


def is_mistake(error: BaseException) -> bool:
    """Whether it is the user's: ours to tell in a line, the system's about a file or folder, memory that was not to be
    had, or one of Hydra and OmegaConf, which only read what was given."""
    from text23d.memory import is_out_of_memory  # here, as all that takes time: the sooner `main` watches for signals

    ours = isinstance(error, UserError | OSError) or is_out_of_memory(error)
    return ours or type(error).__module__.partition(".")[0] in ("hydra", "omegaconf")


def sentence(error: BaseException) -> str:
    """What an error that `is_mistake` says to a person."""
    from text23d.memory import lack, shortage

    short = shortage(error)
    if short is not None and not isinstance(short, UserError):
        return lack(short)
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else ""
        advice = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another file or folder"
        return f"{about}{error.strerror or error}; {advice}"
    from text23d.door.hints import in_our_words

    return in_our_words(error)


def say(message: str, status: int) -> int:
    """Print `message` as one line of stderr; returns `status`."""
    with suppress(OSError):  # of a terminal that is gone
        print(f"text23d: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return status


# The command line


def check_surroundings(arguments: Sequence[str]) -> None:
    """Raises UserError where arguments are no text, and in a folder that somebody has removed."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            readable = argument.encode(errors="surrogateescape").decode(errors="replace")
            raise UserError(f"{readable!r} holds bytes that are no UTF-8 text: write it again, or rename it") from error
    try:
        os.getcwd()
    except OSError as error:
        raise UserError("the working folder is gone: go to one that is there (cd ~) and try again") from error


def choose(arguments: Sequence[str]) -> list[str]:
    """The verb, and what follows it. Raises UserError, with near misses, where the first argument is no verb."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return choose([arguments[1], "--help"]) if arguments[1:] else ["help"]
    if arguments[0] == "--version":
        return ["version"]
    first = arguments[0].replace("-", "_")
    if first in VERBS:
        return [first, *arguments[1:]]
    if any(sign in arguments[0] for sign in "= "):
        prompt = arguments[0].removeprefix("prompt=")
        raise UserError(f'no verb given: did you mean text23d run prompt="{prompt}"?')
    import difflib

    near = difflib.get_close_matches(first, VERBS, 3, 0.5)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    raise UserError(f"no verb named {arguments[0]!r}: {meant}known are {', '.join(VERBS)}")


def perform(verb: str, arguments: Sequence[str]) -> Any:
    """What a verb's command line asks for: its version, its help, or the verb itself. Returns the exit status."""
    from text23d.paths import config_of

    if verb == "version" or "--version" in arguments:
        print(f"text23d {__version__}")
        return 0
    if verb == "help":
        from text23d.door import manual

        print(manual.overview(VERBS))
        return 0
    if shared() and verb not in SHARED:
        raise UserError(f"{verb} is done by one process: start it without torchrun, which is for {', '.join(SHARED)}")
    if config_of(verb) is None:
        if verb != "doctor":  # which finds that itself
            from text23d.door import libraries

            libraries.check(verb)
        return module(verb).main(list(arguments))
    if {"-h", "--help"} & set(arguments):
        from text23d.door import manual

        print(manual.page(verb, VERBS[verb]))
        return 0
    return under_hydra(verb, arguments)


def under_hydra(verb: str, arguments: Sequence[str]) -> int:
    """Run a verb that has a configuration, as a job of Hydra's or several."""
    # Hydra would otherwise turn every error into a page of its own and exit before we can say it in one line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    from text23d.door import libraries

    libraries.check(verb)
    from text23d.door import commandline

    register_resolvers()
    line = commandline.read(verb, arguments)
    if shared() and line.multirun:
        raise UserError("a sweep is done by one process: start it without torchrun, or torchrun for each of its runs")
    if following():
        line.arguments.append("hydra.run.dir=.")  # the folder is made by the first, and used by it alone
    import hydra

    if line.runs:
        module(verb)  # here, where nothing is made yet and Ctrl-C may end it at once
        watch(interrupt)
    if line.sweep:
        module(verb).sweep(line, arguments)
        return 0
    sys.argv[1:] = line.arguments
    job = Job(verb, line.folder)
    hydra.main(version_base="1.3", config_path=line.config_path, config_name=line.config_name)(job)()
    return 0


class Job:
    """A verb as Hydra calls it. It travels to the worker of a launcher as its name, and registers there what the
    configuration needs."""

    folder: str | None = None
    """Of the running job, where Hydra could not say it."""

    def __init__(self, verb: str, folder: str | None = None) -> None:
        self.verb, Job.folder = verb, folder

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register_resolvers()

    def __call__(self, cfg: DictConfig) -> None:
        plain_spoken(module(self.verb).run)(cfg)


def module(verb: str) -> Any:
    """The verb's module. What it imports stays as long as the process does: to look through that for garbage, again and
    again while it grows, would take a tenth of the start."""
    gc.disable()
    try:
        return import_module(f"text23d.{verb}")
    finally:
        gc.freeze()
        gc.enable()


def plain_spoken(verb: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """`verb` as a function that ends on the user's mistakes by itself: Hydra would add lines of its own."""

    def job(cfg: DictConfig) -> None:
        try:
            verb(cfg)
        except Exception as error:
            if (ended_by and not isinstance(error, RankError)) or not is_mistake(error):
                raise
            sys.exit(mistaken(error))

    return job


def output_folder() -> Path:
    """Where the files of the running job go."""
    from text23d.compose import hydras_folder

    return Path(Job.folder or hydras_folder())


def register_resolvers() -> None:
    """See `compose.register_resolvers`."""
    from text23d import compose

    compose.register_resolvers()


def device(name: str) -> torch.device:
    """See `devices.find_device`; small numbers are taken for zero from now on, as they cost a CPU up to a
    hundredfold."""
    from text23d.devices import find_device
    from text23d.kernels.threads import flush_denormals

    flush_denormals(True)
    return find_device(name)

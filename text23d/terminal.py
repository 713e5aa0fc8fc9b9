"""What verbs without a configuration read from a terminal, and how trainings show their progress there."""

from __future__ import annotations

import argparse
from typing import NoReturn

from tqdm import tqdm

from text23d.errors import UserError


class Parser(argparse.ArgumentParser):
    """Reads a command line, and raises UserError where it is none."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}: {self.prog} --help lists what there is")


class Bars:
    """Progress of a training: a bar for each thing that is made, with the mean loss. Implements
    `engine.training.Progress`."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.mean = 0.0

    def __call__(self, what: str, done: int, total: int, loss: float | None = None) -> None:
        if self.bar is None or self.bar.desc != f"{what}: ":
            self.close()
            self.bar = tqdm(desc=what, total=total, smoothing=0.02, miniters=1, mininterval=1, dynamic_ncols=True)
        if loss is not None:
            self.mean = 0.99 * self.mean + 0.01 * loss if self.mean else loss
            self.bar.set_postfix_str(f"loss {self.mean:.4f}", refresh=False)
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

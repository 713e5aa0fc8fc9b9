"""python -m text23d.serve: makes what is asked for in the browser or over HTTP."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("serve")  # which imports what follows once the command line is read

from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.errors import UserError
from text23d.settings import checked

EXTRAS = ("fastapi", "uvicorn", "sqlalchemy", "sse_starlette", "starlette")
"""What the optional package `serve` brings."""


def run(cfg: DictConfig) -> None:
    """Serve until a signal comes. Raises UserError for settings that do not serve, and where FastAPI is not there."""
    try:
        from text23d.service.server.options import ServerOptions
        from text23d.service.server.serving import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        raise UserError(f'{error.name} is not installed; pip install -e ".[serve]"') from error
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    serve(checked(plain["server"], ServerOptions, "server"))

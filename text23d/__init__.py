"""text23d: text-to-3D by Langevin-diffusion data priors (US 2025/0259277 A1).

    import text23d
    result = text23d.generate("a red car", seed=3)
    result.save("car.glb")

Importing the package is cheap; its one side effect is to ask OpenMP to sleep between parallel regions, because
spinning threads cost about 8 ms a region on a busy machine. It must happen before torch loads, hence here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from text23d.api import Result, generate, load_prior

__version__ = "0.2.0"
__all__ = ["Result", "__version__", "generate", "load_prior"]


def __getattr__(name: str) -> Any:
    """The Python interface, imported with torch when it is first used."""
    if name in ("Result", "generate", "load_prior"):
        from text23d import api

        return getattr(api, name)
    raise AttributeError(f"module 'text23d' has no attribute {name!r}")

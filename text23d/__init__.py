"""text23d: text-to-3D by Langevin-diffusion data priors (US 2025/0259277 A1).

Importing the package is cheap; its one side effect is to ask OpenMP to sleep between parallel regions, because
spinning threads cost about 8 ms a region on a busy machine. It must happen before torch loads, hence here.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

"""`python -m recipes.pocket`."""

import os

# NumPy's matrix threads spin while they wait and would take the core that trains; must be set before NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from .run import main

main()

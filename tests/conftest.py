"""Settings for the suite's own tests."""

import os

# Several workers that each start as many threads as there are cores wait for each other: tiny networks run ten times
# slower. This must be set before torch is imported; a subprocess of a test inherits it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["pytester"]

"""For all tests: one thread for each process; property tests that run few cases, always the same.

Many tests start processes of their own. On few cores their OpenMP threads would wait for one another, and the whole run
would take four times as long. Set here, before anything imports torch, and inherited by what the tests start.

HYPOTHESIS_PROFILE=thorough draws a thousand new cases for each property of the parsers:
    HYPOTHESIS_PROFILE=thorough python -m pytest tests/data/test_properties.py
"""

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hypothesis keeps notes on the code it tests: not in the working tree.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(tempfile.gettempdir()) / "hypothesis"))
_slow = (HealthCheck.too_slow, HealthCheck.data_too_large)  # files are written and read: that takes its time
settings.register_profile("few", max_examples=20, derandomize=True, database=None, deadline=None,
                          suppress_health_check=_slow)  # fmt: skip
settings.register_profile("thorough", max_examples=1000, database=None, deadline=None, suppress_health_check=_slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "few"))

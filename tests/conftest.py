"""For all tests: one thread for each process.

Many tests start processes of their own. On few cores their OpenMP threads would wait for one another, and the whole run
would take four times as long. Set here, before anything imports torch, and inherited by what the tests start.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

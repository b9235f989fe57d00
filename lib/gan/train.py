"""`python -m lib.gan.train RUN`, also under torchrun: see `lib.gan.job`.

A module of its own because `lib.gan.train` is the function: nothing imports this file, it is only run.
"""

import sys

from lib.gan.job import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Entry point of a Ray job: ``ray job submit --working-dir . -- python jobs/run.py jobs/X.yaml``."""

import sys

from segsweep.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "run")
    main()

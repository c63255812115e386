"""``python -m ToothTopoSegLib``: the same command line as ``toothtopo``."""

import sys

from ToothTopoSegLib.cli import main

if __name__ == "__main__":
    sys.exit(main())

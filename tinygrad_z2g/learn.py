"""`python -m tinygrad_z2g.learn`: the command of `tools/learn`."""

import sys

from .tools.learn.__main__ import main

if __name__ == "__main__":
    sys.exit(main())

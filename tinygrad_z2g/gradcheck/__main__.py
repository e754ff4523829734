"""`python -m tinygrad_z2g.gradcheck`: the command of `tools/gradcheck`."""

import sys

from ..tools.gradcheck.__main__ import main

if __name__ == "__main__":
    sys.exit(main())

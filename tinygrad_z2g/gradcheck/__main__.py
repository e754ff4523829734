"""`python -m tinygrad_z2g.gradcheck`: the command of `tools/gradcheck`, which knows nothing of this."""

import sys

from ..tools.gradcheck.__main__ import main

if __name__ == "__main__":
    sys.exit(main())

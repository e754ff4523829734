"""`python -m tinygrad_z2g.info`: the command of `tools/info`."""

from .tools.info import main

if __name__ == "__main__":
    main()

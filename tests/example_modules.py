"""The modules beside the example scripts, for tests that import them into this process."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """`import common` works, as in a script of examples/; afterwards nothing from there is left."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield
    finally:
        sys.path.remove(str(EXAMPLES))
        for name, module in list(sys.modules.items()):
            if EXAMPLES in Path(getattr(module, "__file__", None) or "").parents:
                del sys.modules[name]

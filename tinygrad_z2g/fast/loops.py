"""Whether the compiled loops are used, and if not, why.

They need Numba, which takes half a second to import: not before the first array that is large enough. It knows nothing
of what the loops compute; see `compiled/`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

OLDEST = (0, 60)  # the first Numba for NumPy 2
LARGE = 2**14  # numbers from which a loop is taken; at half of that it is no slower than NumPy, but nobody would notice

ready: ModuleType | None = None  # `compiled`, once it is loaded
reason = ""  # why it will not be


def load() -> ModuleType | None:
    """The loops; None, with the `reason` set, where they cannot be used. Looks once."""
    global ready
    if ready is None and not reason:
        found = find()
        if found is not None:
            _say_if_new(found.cache_folder())
            found.prepare()
            ready = found
    return ready


def find() -> ModuleType | None:
    """The module, though nothing is said and nothing compiled; nothing of it may be called but `threads`."""
    global reason
    if os.environ.get("TINYGRAD_Z2G_COMPILED") == "0":
        reason = "TINYGRAD_Z2G_COMPILED=0"
        return None
    if importlib.util.find_spec("numba") is None:
        reason = "Numba is not installed (pip install 'tinygrad_z2g[fast]')"
        return None
    try:
        version = importlib.import_module("numba").__version__
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
            raise ImportError(f"version {version} is older than {'.'.join(map(str, OLDEST))}")
        return importlib.import_module(f"{__package__}.compiled")
    except Exception as error:  # a Numba that does not fit this NumPy or Python says so in many ways
        reason = f"Numba cannot be used: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        print(f"tinygrad_z2g: {reason}; NumPy computes alone", file=sys.stderr)
        return None


def _say_if_new(folder: str | None) -> None:
    """Tell that the first run compiles. Code that was compiled from other sources than these is removed.

    (Numba looks at the file of a loop alone, not at what the loop calls.)
    """
    sources = sorted((Path(__file__).parent / "compiled").glob("*.py"))
    now = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    where = "compiling loops for this machine, once"
    try:
        if folder is None:
            raise OSError
        stamp = Path(folder) / "loops.sha256"
        if stamp.exists() and stamp.read_text() == now:
            return
        for index in Path(folder).glob("*.nbi"):
            index.unlink(missing_ok=True)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(now)
    except OSError:
        where = "compiling loops, in each process anew, as no folder is writable (see NUMBA_CACHE_DIR)"
    print(
        f"tinygrad_z2g: {where}; 10 to 20 s in all, each when first needed (TINYGRAD_Z2G_COMPILED=0 does without)",
        file=sys.stderr,
    )


def state() -> str:
    """Which set is in use, for `info`."""
    found = ready or find()
    if found is None:
        return f"NumPy alone: {reason}"
    unit = ", with the matrix unit (AMX)" if found.UNIT else ""
    return f"compiled, Numba {sys.modules['numba'].__version__}, {found.threads()} threads{unit}"

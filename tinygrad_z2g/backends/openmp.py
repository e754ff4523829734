"""The library openmp: not used here. It knows nothing of any."""


def is_available() -> bool:
    """False: this library is not used here."""
    return False

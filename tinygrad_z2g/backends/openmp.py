"""The library openmp: not used here."""


def is_available() -> bool:
    """False: this library is not used here."""
    return False

"""The library mkldnn: not used here."""


def is_available() -> bool:
    """False: this library is not used here."""
    return False

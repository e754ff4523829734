"""Apple's GPUs: not used here."""


def is_available() -> bool:
    """False: this library is not used here."""
    return False


def is_built() -> bool:
    """False: nothing here was built for it."""
    return False

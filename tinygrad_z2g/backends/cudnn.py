"""cuDNN's switches: they can be set, and change nothing, for it is not used."""

enabled = True
benchmark = False
deterministic = False
allow_tf32 = False


def is_available() -> bool:
    """False: convolutions are products of matrices here."""
    return False


def version() -> None:
    """None: there is no cuDNN here."""
    return

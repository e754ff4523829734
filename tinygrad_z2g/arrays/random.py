"""Random numbers: one seed for everything, the same numbers on every device.

Weights, shuffles and samples are drawn on the host by `numpy.random.Generator` and then moved, so a seed gives the same
model on the CPU and on the GPU. Dropout needs a number per activation at every step, too many to move: its masks come
from a counter-based hash, a pure function of (seed, call number, element) that any device can evaluate. It knows
nothing of tensors, and nothing of what the numbers are for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from .backend import Array, Device, of, resolve

__all__ = ["Generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]
_handing_out = threading.Lock()


class Generator:
    """A stream of random numbers with a seed. Pass it as `generator=` to keep a stream of your own.

    A device may be named, also in the first place as in torch: the numbers are the same on every device, so that only
    `generator.device` depends on it.
    """

    def __init__(self, seed: int | str | Device = 0, device: str | Device = "cpu"):
        if isinstance(seed, (str, Device)):
            device, seed = seed, 0
        self.device = resolve(device)
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream from `seed`, any integer >= 0. Returns the generator itself."""
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"manual_seed: got {seed!r}, expected an integer")
        if seed < 0:
            raise ValueError(f"manual_seed: got {seed}, expected an integer >= 0")
        self._seed = int(seed)
        self._calls = 0  # dropout masks handed out so far
        self.numpy = np.random.Generator(np.random.PCG64(self._seed))
        return self

    def initial_seed(self) -> int:
        """The seed this stream started from."""
        return self._seed

    def next_key(self) -> int:
        """A fresh 32-bit key for `random_bits`: a hash of the seed and of the number of keys given before."""
        with _handing_out:  # or two threads get the same key, and the same mask
            self._calls += 1
            call = self._calls
        low, high = self._seed & 0xFFFFFFFF, (self._seed >> 32) & 0xFFFFFFFF
        return _mix(_mix(_mix(low) ^ high) ^ call)

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue the stream later, as plain numbers and strings (JSON can hold it)."""
        return {"seed": self._seed, "calls": self._calls, "numpy": self.numpy.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that `get_state` returned. ValueError, with nothing changed, for anything else."""
        bits = np.random.PCG64()
        try:
            seed, calls, bits.state = state["seed"], state["calls"], state["numpy"]
            if bits.state != state["numpy"]:  # NumPy takes 0.5 for 0
                raise ValueError("numbers out of range")
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"set_state: this is not what get_state returned ({error!r})") from error
        for name, value in (("seed", seed), ("calls", calls)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"set_state: '{name}' is {value!r}, expected an integer >= 0")
        self._seed, self._calls = seed, calls
        self.numpy.bit_generator.state = bits.state


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seed the default stream: same seed, same device, same result. Returns the default generator."""
    return default_generator.manual_seed(seed)


def normal(shape: tuple, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> np.ndarray:
    """Samples of the normal distribution, drawn on the host, in float64."""
    return mean + std * (generator or default_generator).numpy.standard_normal(shape, np.float64)


def uniform(shape: tuple, low: float, high: float, dtype: Any, generator: Generator | None = None) -> np.ndarray:
    """Samples of the uniform distribution on [low, high), drawn on the host in float64 and rounded once."""
    samples = (low + (high - low) * (generator or default_generator).numpy.random(shape, np.float64)).astype(dtype)
    below = np.nextafter(dtype.type(high), dtype.type(low))  # rounding may have reached `high`
    return np.where(samples == high, below, samples)


def choices(weights: np.ndarray, n: int, replacement: bool, generator: Generator | None = None) -> np.ndarray:
    """n indices into each row of (m, k) weights >= 0, drawn with a probability proportional to them: (m, n), int64.

    One of a row by hand: those that `Generator.choice` would draw from the same stream, in 7 in place of 23 µs.
    """
    stream = (generator or default_generator).numpy
    sums = weights.sum(1, keepdims=True)
    if n == 1 and len(weights) and sums.min() > 0 and sums.max() < np.inf:  # `choice` refuses others; also NaN
        reached = (weights / sums).cumsum(1)
        reached /= reached[:, -1:]  # which rounding left beside 1
        return (reached <= stream.random((len(weights), 1))).sum(1, keepdims=True)  # (m, k) <= (m, 1)
    drawn = [stream.choice(len(row), n, replace=replacement, p=row / row.sum(), shuffle=False) for row in weights]
    return np.array(drawn, np.int64).reshape(len(weights), n)  # of no rows, too


# The multipliers and shifts of Chris Wellons' "lowbias32", an integer hash in which each input bit flips each
# output bit with probability close to 1/2 (github.com/skeeto/hash-prospector, public domain).
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
_SHIFTS = (16, 15, 16)


def _mix(x: int) -> int:
    """The hash of one 32-bit Python integer."""
    x ^= x >> _SHIFTS[0]
    x = x * _MULTIPLIERS[0] & 0xFFFFFFFF
    x ^= x >> _SHIFTS[1]
    x = x * _MULTIPLIERS[1] & 0xFFFFFFFF
    return x ^ x >> _SHIFTS[2]


def random_bits(key: int | Array, like: Array) -> Array:
    """32 random bits for each element of `like`, on its device: hash(hash(element number) XOR key).

    Hashed once only, two keys that differ in few bits would give the same mask with elements exchanged.
    """
    xp, key = of(like), np.uint32(key) if isinstance(key, int) else key
    numbers = _hashed_numbers(like.size) if xp is np else _hash(xp.arange(like.size, dtype=np.uint32))
    return _hash(numbers ^ key).reshape(like.shape)


def _hash(bits: Array) -> Array:
    """The hash of each element, in its place."""
    xp = of(bits)
    together = 2**16 if xp is np else max(bits.size, 1)  # half a megabyte stays in the cache: twice as fast
    for start in range(0, bits.size, together):
        x = bits[start : start + together]
        scratch = xp.empty_like(x)
        for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, None), strict=True):
            xp.right_shift(x, np.uint32(shift), out=scratch)
            x ^= scratch
            if multiplier is not None:
                x *= np.uint32(multiplier)  # modulo 2^32
    return bits


_known = np.empty(0, np.uint32)


def _hashed_numbers(n: int) -> Array:
    """hash(0), ..., hash(n - 1), to be read only. They are the same for every key, so the longest array so far is kept,
    which halves the time of a mask; but no more than 64 MiB of it.
    """
    global _known
    if n > 2**24:
        return _hash(np.arange(n, dtype=np.uint32))
    known = _known
    if len(known) < n:
        known = _known = _hash(np.arange(n, dtype=np.uint32))
    return known[:n]


def dropout_mask(like: Array, p: float, key: int | Array) -> Array:
    """0 with probability p, else 1 / (1 - p), in the shape and dtype of `like`: a pure function of `key`."""
    threshold, kept = dropout_numbers(p)
    return (random_bits(key, like) >= threshold) * like.dtype.type(kept)


def dropout_numbers(p: float) -> tuple[np.uint32, float]:
    """Bits below which an element is dropped, and what the others are multiplied by. (p = 1 leaves nothing to keep.)"""
    return np.uint32(min(round(p * 2**32), 2**32 - 1)), 1 / (1 - p) if p < 1 else 0.0


def seed() -> int:
    """Seed the default stream with a number that nobody chose, and return it."""
    number = int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) >> 1
    default_generator.manual_seed(number)
    return number


def initial_seed() -> int:
    """The seed that the default stream started from."""
    return default_generator.initial_seed()


def get_rng_state() -> dict[str, Any]:
    """Everything needed to continue the default stream later; see `Generator.get_state`."""
    return default_generator.get_state()


def set_rng_state(new_state: dict[str, Any]) -> None:
    """Continue the default stream from there."""
    default_generator.set_state(new_state)


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True) -> Iterator[None]:
    """Afterwards the default stream goes on as if nothing had been drawn inside. One stream serves all devices."""
    state = default_generator.get_state()
    try:
        yield
    finally:
        if enabled:
            default_generator.set_state(state)

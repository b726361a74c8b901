"""Counter-based random numbers: number `slot` of image `index` as a hash of (seed, index, slot).

With a sequential generator, image i would depend on the images before it, on the batch and on the device. The hash uses
int64 arithmetic, whose overflow is the same everywhere.
"""

import torch
from torch import Tensor

from thruway.seeding import derive

__all__ = ["image_keys", "next_keys", "random_integers", "random_uniform"]

BITS = 32  # per random number: exact in float64, and its product with a limit below 2**31 is exact in int64


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant


_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _xor_shift(z: Tensor, shift: int) -> Tensor:
    # Right shifts of int64 extend the sign; the mask makes them logical shifts.
    return (z >> shift).bitwise_and_((1 << (64 - shift)) - 1).bitwise_xor_(z)


def _mix(z: Tensor) -> Tensor:
    """Output function of SplitMix64 (Steele, Lea & Flood 2014, fig. 16): all output bits depend on all input bits."""
    return _xor_shift(_xor_shift(_xor_shift(z, 30) * _FIRST, 27) * _SECOND, 31)


def image_keys(seed: int, indices: Tensor) -> Tensor:
    """Return the key from which all random numbers of an image derive: int64, the shape of `indices`."""
    return _mix(indices * _STEP + derive(seed, "shapeset"))


def next_keys(keys: Tensor) -> Tensor:
    """Return the keys with which the same images are redrawn."""
    return _mix(~keys)


def _random_words(keys: Tensor, slot: int, count: int) -> Tensor:
    """Return the numbers `slot` to `slot + count - 1` of each key, from 0 to 2**32 - 1: (count, ...)."""
    slots = torch.arange(slot + 1, slot + 1 + count, device=keys.device).view(-1, *[1] * keys.dim())
    return (_mix(keys + slots * _STEP) >> 32).bitwise_and_((1 << BITS) - 1)


def random_integers(keys: Tensor, slot: int, limit: int | Tensor) -> Tensor:
    """Return an integer from 0 to limit - 1 for each key, uniform up to a bias of one part in 2**32 / limit."""
    return (_random_words(keys, slot, 1)[0] * limit) >> BITS


def random_uniform(keys: Tensor, slot: int, count: int) -> Tensor:
    """Return `count` numbers in [0, 1) for each key: float64, (count, ...), multiples of 2**-32."""
    return _random_words(keys, slot, count).double() * 2.0**-BITS

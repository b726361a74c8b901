"""Random numbers without a state: number `slot` of image `index`, straight from the three integers.

A generator that walks would make image i depend on the images before it, on the batch they came in and on the device.
Here every number is a hash, in int64 arithmetic that wraps alike everywhere.
"""

import torch
from torch import Tensor

from thruway.seeding import derive

__all__ = ["below", "image_keys", "next_keys", "units"]

BITS = 32  # of one random number: exact in float64, and a product with a count below 2**31 stays exact in int64


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant


_STEP = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _folded(z: Tensor, shift: int) -> Tensor:
    # int64 shifts copy the sign downwards; the mask makes them logical.
    return (z >> shift).bitwise_and_((1 << (64 - shift)) - 1).bitwise_xor_(z)


def _mixed(z: Tensor) -> Tensor:
    """SplitMix64's last step (Steele, Lea & Flood 2014, fig. 16), each bit in hanging on every bit out."""
    return _folded(_folded(_folded(z, 30) * _FIRST, 27) * _SECOND, 31)


def image_keys(seed: int, indices: Tensor) -> Tensor:
    """What all numbers of an image hang on: int64, the shape of `indices`."""
    return _mixed(indices * _STEP + derive(seed, "shapeset"))


def next_keys(keys: Tensor) -> Tensor:
    """The keys of the same images drawn once more."""
    return _mixed(~keys)


def _numbers(keys: Tensor, slot: int, count: int) -> Tensor:
    """Integers from 0 to 2**32 - 1: the numbers `slot` to `slot + count - 1` of each key, (count, ...)."""
    slots = torch.arange(slot + 1, slot + 1 + count, device=keys.device).view(-1, *[1] * keys.dim())
    return (_mixed(keys + slots * _STEP) >> 32).bitwise_and_((1 << BITS) - 1)


def below(keys: Tensor, slot: int, limit: int | Tensor) -> Tensor:
    """An integer from 0 to limit - 1 for each key, all equally likely but for one part in 2**32 / limit."""
    return (_numbers(keys, slot, 1)[0] * limit) >> BITS


def units(keys: Tensor, slot: int, count: int) -> Tensor:
    """`count` numbers for each key, from 0 to just below 1: float64, (count, ...), multiples of 2**-32."""
    return _numbers(keys, slot, count).double() * 2.0**-BITS

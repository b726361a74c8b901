"""One seed, many independent named streams.

Library code takes a generator and never touches the global ones. A stream is named by the path
that leads to it, so that adding a stream, or drawing them in another order, changes no other.
"""

import hashlib

import torch

__all__ = ["derive", "generator"]


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed that depends on `seed` and on every name, in order.

    >>> derive(0, "weights") == derive(0, "weights"), derive(0, "weights") == derive(0, "data")
    (True, False)
    """
    # repr keeps 1 and "1" apart; the separator cannot occur unescaped inside a repr.
    path = "\n".join(repr(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh torch generator for the stream `names` of `seed`.

    >>> g = generator(0, "weights", 3)
    >>> torch.equal(torch.rand(2, generator=g), torch.rand(2, generator=generator(0, "weights", 3)))
    True
    """
    return torch.Generator(device=device).manual_seed(derive(seed, *names))

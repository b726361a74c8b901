"""Independent named random streams derived from one seed.

Library code takes a generator and never uses the global ones. A stream is identified by a path of names, so adding
streams, or using them in another order, does not change the others.
"""

import hashlib

import torch

__all__ = ["derive", "generator"]


def derive(seed: int, *names: str | int) -> int:
    """Derive a 63-bit seed from `seed` and a sequence of names.

    >>> derive(0, "weights") == derive(0, "weights"), derive(0, "weights") == derive(0, "data")
    (True, False)
    """
    # repr distinguishes 1 from "1"; the separator cannot occur unescaped inside a repr.
    path = "\n".join(repr(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new torch generator for the stream `names` of `seed`.

    >>> g = generator(0, "weights", 3)
    >>> torch.equal(torch.rand(2, generator=g), torch.rand(2, generator=generator(0, "weights", 3)))
    True
    """
    return torch.Generator(device=device).manual_seed(derive(seed, *names))

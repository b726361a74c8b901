"""Command that creates the included digits file from scikit-learn's copy.

    python -m thruway.data.embed_digits            # needs thruway[baselines]

With the same version of zlib, the file is identical byte for byte.
"""

from pathlib import Path

import numpy as np

__all__ = ["embed"]


def embed(target: Path) -> None:
    """Write scikit-learn's digits to `target` as two uint8 arrays, `images` (N, 8, 8) and `labels` (N,)."""
    from sklearn.datasets import load_digits  # an extra; only this command needs it

    bunch = load_digits()
    np.savez_compressed(target, images=bunch.images.astype(np.uint8), labels=bunch.target.astype(np.uint8))


if __name__ == "__main__":
    target = Path(__file__).with_name("digits.npz")
    embed(target)
    print(f"{target}: {target.stat().st_size} bytes")

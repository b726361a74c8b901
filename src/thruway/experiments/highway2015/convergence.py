"""Highway nets converge faster than plain ones of the same depth: not the best of a search alone, but its top tenth.

Paper     Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), sec. 3.1, fig. 1, right
Protocol  for plain and highway nets of each depth 100 random settings as in highway2015.depth; the training
          cross-entropy against epoch, the mean over the ten settings of lowest final loss
Claims    over the epochs the loss of highway nets is lower than that of plain ones, at every depth; at the deepest it
          ends an order of magnitude lower; nets of 50 layers and more end like shallow ones (convergence_claims.py)
Measured  results/highway2015.convergence-laptop
Cost      demo 50 seconds on one busy core; laptop 41 minutes on a busy one; paper a GPU
Differs   as highway2015.depth, whose search this is: the ranges of the search, and data, trials and epochs at demo and
          laptop scale; the mean of at least two settings where a tenth of them is less
"""

from thruway.experiments.highway2015.depth import Config

__all__ = ["SCALES", "top_of"]

# The paper's share: the best 10 of 100 settings.
_TOP_SHARE = 0.1

SCALES: dict[str, Config] = {
    "demo": Config(blocks=("plain", "highway"), trials=6, epochs=20),
    "laptop": Config(
        scale="laptop",
        data="fashion-mnist",
        examples=3000,
        blocks=("plain", "highway"),
        depths=(10, 20, 50),
        searches=3,
        trials=20,
        epochs=40,
    ),
    "paper": Config(
        scale="paper",
        data="mnist",
        blocks=("plain", "highway"),
        depths=(10, 20, 50, 100),
        searches=3,
        trials=100,
        epochs=400,
        device="cuda",
    ),
}


def top_of(config: Config) -> int:
    """How many settings of a search, block and depth the mean is over.

    >>> top_of(SCALES["paper"]), top_of(SCALES["laptop"]), top_of(SCALES["demo"])
    (10, 2, 2)
    """
    return min(config.trials, max(2, round(_TOP_SHARE * config.trials)))

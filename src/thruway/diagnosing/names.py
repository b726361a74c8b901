"""Names of parameters and modules."""

from thruway.diagnosing.reading import Reading

__all__ = ["embedding_names", "owner_of"]


def owner_of(name: str) -> str:
    """Return the name of the module of a parameter, or of the parent of a module; "" for the model itself.

    >>> owner_of("hidden.3.weight"), owner_of("weight")
    ('hidden.3', '')
    """
    return name.rpartition(".")[0]


def embedding_names(reading: Reading) -> frozenset[str]:
    """Return the names of the modules that look up embeddings: a step changes only the rows that were used."""
    return frozenset(
        site.name.split("#")[0] for site in reading.outputs if site.operation in ("Embedding", "embedding")
    )

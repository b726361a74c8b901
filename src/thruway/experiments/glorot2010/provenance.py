"""What the reports of the four studies say alike of where their numbers come from."""

from collections.abc import Collection, Sequence

from pydantic import BaseModel

from thruway.experiments.in_words import provenance_in_words, setting_in_words
from thruway.runs import RunReader

__all__ = ["differences", "image_data", "origin"]

# Fields of a config that say where and how often, and nothing of the protocol.
_NOT_PROTOCOL = frozenset(("scale", "data_root", "download", "device", "seed", "seeds"))


def differences(config: BaseModel, paper: BaseModel, also_not_protocol: Collection[str] = ()) -> list[str]:
    """The settings that are not those of the paper's scale, a sentence each."""
    return [
        f"{field.replace('_', ' ')}: {setting_in_words(here)}; at paper scale: {setting_in_words(there)}"
        for field in type(config).model_fields
        if field not in _NOT_PROTOCOL.union(also_not_protocol)
        and (here := getattr(config, field)) != (there := getattr(paper, field))
    ]


def image_data(name: str, size: int) -> str:
    """The data set; of Shapeset also how large its images are.

    >>> image_data("shapeset", 16), image_data("mnist", 16)
    ('shapeset, 16x16 pixels, drawn without end', 'mnist')
    """
    return f"shapeset, {size}x{size} pixels, drawn without end" if name == "shapeset" else name


def origin(reader: RunReader, *, cost: str, differs: Sequence[str]) -> dict[str, str | Sequence[str]]:
    """The machine, the program and what became of the run: the end of every report's account."""
    meta = reader.meta
    return {
        "hardware": provenance_in_words(meta.get("hardware")),
        "versions": provenance_in_words(meta.get("versions")),
        "commit": provenance_in_words(meta.get("git")),
        "command": " ".join(meta.get("command", ())),
        "cost": cost,
        "status": reader.status,
        "differs from the paper": differs,
    }

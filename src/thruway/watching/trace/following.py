"""What the derived quantities follow from, in words: for whoever asks for one that is not there."""

from dataclasses import dataclass

from thruway.watching.sites import Kind

__all__ = ["FOLLOWING", "Following"]


@dataclass(frozen=True)
class Following:
    """One derived quantity."""

    needs: tuple[str, ...]  # the quantities it is computed from
    kind: Kind
    where: str  # which sites have it
    needs_optimizer: bool = False

    def instead_of_asking(self, name: str) -> str:
        """Why it is no name for `quantities=`, and what to pass."""
        also = " and pass optimizer=" if self.needs_optimizer else ""
        return (
            f"{name!r} is not measured, as it follows from {self._sources()} at {self.where}. Leave it out of "
            f"quantities, have {self._sources()} among them{also}; then trace.series({name!r}, {self.kind!r}) and "
            f"trace.figure({name!r}) have it."
        )

    def why_missing(self, name: str, *, has_kind: bool) -> str:
        """Why a trace has not got it."""
        if self.needs_optimizer and not has_kind:
            return (
                f"{name!r} follows from {self._sources()} at {self.where}, which are watched only if watch is given "
                "the optimizer. Pass optimizer=."
            )
        return (
            f"{name!r} follows from {self._sources()} at {self.where}, and there were none. Watch a model that has "
            f"such sites, with {self._sources()} among the quantities, as the default has."
        )

    def _sources(self) -> str:
        return " and ".join(map(repr, self.needs))


FOLLOWING: dict[str, Following] = {
    "branch_ratio": Following(("mean", "std"), "output", "residual adds"),
    "update_ratio": Following(("norm",), "update", "parameters and their updates", needs_optimizer=True),
    "saturation": Following(
        ("saturation_low", "saturation_high"), "output", "outputs of activations that have flat ends"
    ),
}
"""A row for every name in derived.DERIVED."""

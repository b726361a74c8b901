"""The model with some joins changed, to be used wherever the model is."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from torch import nn

from thruway.dissecting.errors import DissectError
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.merging import Merge

__all__ = ["Lesioned"]


class Lesioned(nn.Module):
    """Looks like the model and runs it, with the joins of some branches changed; `Dissection.without` makes one.

    It owns nothing: parameters, buffers and attributes are the model's own. `eval()` and `train()` hold for its
    own passes only; after each the model is in the mode it was in.
    """

    def __init__(
        self,
        engine: Engine,
        merges: Mapping[int, Merge | None],
        passing: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None,
        change: str = "",
    ) -> None:
        super().__init__()
        # Past nn.Module's own book-keeping: the model is no part of this one.
        self._engine: Engine
        self._merges: dict[int, Merge | None]
        self._mode: bool | None
        self._passing: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None  # another kind of pass
        self._change: str  # what it changes, in words
        vars(self).update(_engine=engine, _merges=dict(merges), _mode=None, _passing=passing, _change=change)
        self.training = engine.model.training

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns, of the same type, with the joins changed.

        Raises:
            DissectError: if the model's code takes another way with these inputs; see Dissection.run.
        """
        with self._in_mode():
            if self._passing is not None:
                return self._passing(args, kwargs)
            return self._engine.run(self._merges, args, kwargs)

    def train(self, mode: bool = True) -> "Lesioned":
        """Training or evaluation mode for passes through this object; the model keeps its own."""
        vars(self)["_mode"] = bool(mode)
        self.training = bool(mode)
        return self

    @contextlib.contextmanager
    def _in_mode(self) -> Iterator[None]:
        model = self._engine.model
        if self._mode is None or self._mode == model.training:
            yield
            return
        before = {module: module.training for module in model.modules()}
        try:
            model.train(self._mode)
            yield
        finally:
            for module, was_training in before.items():
                module.training = was_training

    # --- what belongs to the model

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_engine" not in vars(self):
            raise AttributeError(name)
        return getattr(self._engine.model, name)

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from self._engine.model.named_modules(*args, **kwargs)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        return self._engine.model.named_children()

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return self._engine.model.named_parameters(*args, **kwargs)

    def named_buffers(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return self._engine.model.named_buffers(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self._engine.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DissectError("this is a view of a model, and loads no weights. Load them into the model itself.")

    def _apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DissectError(
            "this is a view of a model: it cannot be moved, cast or shared by itself. Do it to the model, and dissect "
            "that."
        )

    def extra_repr(self) -> str:
        branches = self._engine.branches
        left_out = [branches[index].name for index, merge in self._merges.items() if merge is None]
        changed = [branches[index].name for index, merge in self._merges.items() if merge is not None]
        parts = [f"{word} {', '.join(names)}" for word, names in (("without", left_out), ("changed", changed)) if names]
        parts += [self._change] if self._change else []
        return f"{type(self._engine.model).__name__} {'; '.join(parts) or 'intact'}"

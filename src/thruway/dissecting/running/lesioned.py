"""Views of a model in which some joins are changed."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, SupportsIndex

from torch import nn

from thruway.dissecting.errors import DissectError
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.merging import Merge

__all__ = ["Lesioned"]

_CANNOT_SAVE = (
    "{} would take the whole model: this is a view of it, in which all parameters are in place. Call "
    "dissection.remove(...) for a smaller model."
)


class Lesioned(nn.Module):
    """A model with some of its joins changed. Create one with `Dissection.without` or `Dissection.merged`.

    It is a view: parameters, buffers and attributes are those of the model. `eval()` and `train()` apply to passes
    through the view only, and the model returns to its own mode afterwards.
    """

    def __init__(
        self,
        engine: Engine,
        merges: Mapping[int, Merge | None],
        run_pass: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None = None,
        change: str = "",
    ) -> None:
        super().__init__()
        # Set past nn.Module's __setattr__, which would register the model as a submodule.
        self._engine: Engine
        self._merges: dict[int, Merge | None]
        self._mode: bool | None
        self._run_pass: Callable[[tuple[Any, ...], dict[str, Any]], Any] | None  # replaces the pass with changed joins
        self._change: str  # for repr
        vars(self).update(_engine=engine, _merges=dict(merges), _mode=None, _run_pass=run_pass, _change=change)
        self.training = engine.model.training

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model with the joins changed. The output has the same type as that of the model.

        Raises:
            DissectError: if the model makes other calls with these inputs than the recorded pass; see `Engine.run`.
        """
        with self._in_mode():
            if self._run_pass is not None:
                return self._run_pass(args, kwargs)
            return self._engine.run(self._merges, args, kwargs)

    def train(self, mode: bool = True) -> "Lesioned":
        """Set training or evaluation mode for passes through this view. The model keeps its own mode."""
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

    # --- attributes of the model

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

    # --- saving, which would save the whole model

    def state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DissectError(_CANNOT_SAVE.format("state_dict"))

    def save_pretrained(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DissectError(_CANNOT_SAVE.format("save_pretrained"))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise DissectError(_CANNOT_SAVE.format("torch.save, pickle and copy.deepcopy"))

    def load_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DissectError("this is a view of a model and cannot load weights. Load them into the model itself.")

    def _apply(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise DissectError(
            "this is a view of a model and cannot be moved, cast or shared. Move the model, and dissect it again."
        )

    def extra_repr(self) -> str:
        branches = self._engine.branches
        left_out = [branches[index].name for index, merge in self._merges.items() if merge is None]
        changed = [branches[index].name for index, merge in self._merges.items() if merge is not None]
        parts = [f"{word} {', '.join(names)}" for word, names in (("without", left_out), ("changed", changed)) if names]
        parts += [self._change] if self._change else []
        return f"{type(self._engine.model).__name__} {'; '.join(parts) or 'intact'}"

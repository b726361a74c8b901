"""Evaluation of a metric on the intact model and on many lesioned ones."""

from collections.abc import Callable, Sequence, Sized
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thruway.dissecting.lesions.metrics import Evaluate, Metric, batches_of, checked_scores
from thruway.dissecting.lesions.runner import INTACT, Lesion, LesionRunner
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.tracing.arguments import accepts, as_call
from thruway.dissecting.tracing.model_state import RandomStates, evaluation_mode, restored_buffers
from thruway.dissecting.tracing.unfused import unfused
from thruway.errors import ConfigError
from thruway.progress import show_progress

__all__ = ["Evaluation", "evaluate_lesions"]


class Evaluation(NamedTuple):
    """A metric of the intact model and of each lesion.

    Attributes:
        intact: metric of the intact model.
        values: metric of each lesion.
        name: name of the metric.
        higher_is_better: None if unknown.
        intact_scores: (examples,); None for a function of a model.
        scores: (lesions, examples); None for a function of a model.
    """

    intact: float
    values: list[float]
    name: str
    higher_is_better: bool | None
    intact_scores: Tensor | None
    scores: Tensor | None

    @property
    def examples(self) -> int:
        """Number of examples that the metric was averaged over; 0 if unknown."""
        return 0 if self.intact_scores is None else len(self.intact_scores)


def evaluate_lesions(
    engine: Engine,
    lesions: Sequence[Lesion],
    models: Callable[[Lesion], Lesioned],
    evaluate: Evaluate,
    memory: int,
    progress: bool,
) -> Evaluation:
    """Evaluate the intact model and each lesion, in evaluation mode and without gradients.

    A `Metric` iterates over the data once; a function of a model is called once per model. Modes, buffers and random
    states are restored.

    Args:
        models: returns the lesioned model for a lesion; used for a function of a model.
    Raises:
        ConfigError: if `evaluate` is not a metric, or returns no number.
    """
    if memory < 0:
        raise ConfigError(f"memory must be at least 0 bytes, which stores nothing of the intact pass, got {memory}.")
    if isinstance(evaluate, Metric):
        return _by_batches(engine, lesions, evaluate, memory, progress)
    if isinstance(evaluate, nn.Module) or not callable(evaluate):
        raise ConfigError(
            f"evaluate is a metric, such as Error(batches), or a function of a model that returns a number; got "
            f"{type(evaluate).__name__}."
        )
    if not accepts(evaluate, 1):
        name = getattr(evaluate, "__name__", type(evaluate).__name__)
        raise ConfigError(
            f"evaluate is called with the model as its only argument, which {name} does not accept. For a loss over "
            "data pass Loss(batches); for your own metric, a function of the model."
        )
    return _by_calls(engine, lesions, models, evaluate, progress)


def _by_batches(engine: Engine, lesions: Sequence[Lesion], metric: Metric, memory: int, progress: bool) -> Evaluation:
    runner = LesionRunner(engine, lesions, memory)
    batches = len(metric.batches) if isinstance(metric.batches, Sized) else None
    total = None if batches is None else batches * (len(lesions) + 1)
    columns: list[Tensor] = []
    with evaluation_mode(engine.model), show_progress("lesions", total, progress) as advance:
        for inputs, target in batches_of(metric):
            args, kwargs = as_call(inputs)
            found: dict[int, Tensor] = {}
            for index, output in runner.outputs(args, kwargs):
                found[index] = checked_scores(metric, output, target)
                advance(1)
            columns.append(torch.stack([found[index] for index in range(INTACT, len(lesions))]))
    scores = torch.cat(columns, 1)
    means = scores.mean(1).tolist()
    return Evaluation(means[0], means[1:], metric.name, metric.higher_is_better, scores[0], scores[1:])


def _by_calls(
    engine: Engine,
    lesions: Sequence[Lesion],
    models: Callable[[Lesion], Lesioned],
    evaluate: Callable[[object], float],
    progress: bool,
) -> Evaluation:
    values: list[float] = []
    model = engine.model
    # Unfused, as the lesioned models are, so that the intact model does not differ from them by rounding.
    with evaluation_mode(model), unfused(model), show_progress("lesions", len(lesions) + 1, progress) as advance:
        states = RandomStates(model)
        for subject in (model, *map(models, lesions)):
            # A function that draws random numbers, such as a shuffle, draws the same ones for every model.
            states.restore()
            with restored_buffers(model):
                values.append(_number(evaluate(subject)))
            model.eval()
            advance(1)
    name = getattr(evaluate, "__name__", type(evaluate).__name__)
    name = "metric" if name == "<lambda>" else name
    return Evaluation(values[0], values[1:], name, None, None, None)


def _number(value: object) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.item())
    try:
        return float(value)  # type: ignore[arg-type]  # whatever gives one is a number
    except (TypeError, ValueError):
        raise ConfigError(
            f"evaluate should return one number for a model, and returned {type(value).__name__}. Return a float."
        ) from None

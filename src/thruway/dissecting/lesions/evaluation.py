"""A metric of the intact model and of many lesioned ones."""

from collections.abc import Callable, Sequence, Sized
from typing import NamedTuple

import torch
from torch import Tensor, nn

from thruway.dissecting.lesions.metrics import Evaluate, Metric, batches_of, checked_scores
from thruway.dissecting.lesions.progress import progressing
from thruway.dissecting.lesions.runner import INTACT, Lesion, LesionRunner, evaluation_mode
from thruway.dissecting.running.engine import Engine
from thruway.dissecting.running.lesioned import Lesioned
from thruway.dissecting.tracing.arguments import accepts, as_call
from thruway.dissecting.tracing.model_state import RandomStates, restored_buffers
from thruway.dissecting.tracing.unfused import unfused
from thruway.errors import ConfigError

__all__ = ["Evaluation", "evaluate_lesions"]


class Evaluation(NamedTuple):
    """A metric of many models."""

    intact: float
    values: list[float]
    name: str
    higher_is_better: bool | None
    intact_scores: Tensor | None  # (examples,)
    scores: Tensor | None  # (lesions, examples)

    @property
    def examples(self) -> int:
        """How many the metric was averaged over; 0 where unknown."""
        return 0 if self.intact_scores is None else len(self.intact_scores)


def evaluate_lesions(
    engine: Engine,
    lesions: Sequence[Lesion],
    models: Callable[[Lesion], Lesioned],
    evaluate: Evaluate,
    memory: int,
    progress: bool,
) -> Evaluation:
    """The metric of the intact model and after each lesion.

    A metric of ours goes through the data once; a function of a model is called once for each. Evaluation mode and
    no gradients in either case; modes, buffers and random numbers come out as they went in.

    Raises:
        ConfigError: for something that is no metric, or a function that gives no number.
    """
    if memory < 0:
        raise ConfigError(f"memory={memory} bytes: at least 0, which keeps nothing of the intact pass.")
    if isinstance(evaluate, Metric):
        return _by_batches(engine, lesions, evaluate, memory, progress)
    if isinstance(evaluate, nn.Module) or not callable(evaluate):
        raise ConfigError(
            f"evaluate is a metric, such as Error(batches), or a function of a model that gives a number; got "
            f"{type(evaluate).__name__}."
        )
    if not accepts(evaluate, 1):
        name = getattr(evaluate, "__name__", type(evaluate).__name__)
        raise ConfigError(
            f"evaluate is called with a model alone, and {name} wants other arguments. For a loss over data pass "
            "Loss(batches); for a metric of your own, a function of the model."
        )
    return _by_calls(engine, lesions, models, evaluate, progress)


def _by_batches(engine: Engine, lesions: Sequence[Lesion], metric: Metric, memory: int, progress: bool) -> Evaluation:
    runner = LesionRunner(engine, lesions, memory)
    batches = len(metric.batches) if isinstance(metric.batches, Sized) else None
    total = None if batches is None else batches * (len(lesions) + 1)
    columns: list[Tensor] = []
    with evaluation_mode(engine.model), progressing("lesions", total, progress) as advance:
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
    # Opened, so that the intact model differs from the others by the lesion and by no rounding.
    with evaluation_mode(model), unfused(model), progressing("lesions", len(lesions) + 1, progress) as advance:
        randomness = RandomStates(model)
        for subject in (model, *map(models, lesions)):
            # What the function draws, say to shuffle, it draws for every model alike.
            randomness.restore()
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
            f"evaluate should give one number for a model, and gave {type(value).__name__}. Return a float."
        ) from None

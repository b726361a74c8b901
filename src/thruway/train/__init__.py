"""Training: one net in one readable loop, or a whole population in one step."""

from thruway.train.loop import Step, train
from thruway.train.memory import keep_freed_memory
from thruway.train.population import SGD, Population
from thruway.train.schedules import Schedule, constant, exponential, steps

__all__ = ["SGD", "Population", "Schedule", "Step", "constant", "exponential", "keep_freed_memory", "steps", "train"]

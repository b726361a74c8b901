"""Training of one network in a simple loop, or of a population of networks in vectorised steps."""

from thruway.train.loop import Step, train
from thruway.train.memory import keep_freed_memory
from thruway.train.population import SGD, Population
from thruway.train.schedules import Schedule, constant, exponential, steps

__all__ = ["SGD", "Population", "Schedule", "Step", "constant", "exponential", "keep_freed_memory", "steps", "train"]

"""Sculpting: train networks on a task, and prune each as far as it stays accurate.

`SculptedMLP` sculpts a network on data. It is built on `sculpt`, for thousands of small networks that learn a Boolean
function, and `sculpt_wide`, for one network on samples; `digit_pairs` makes the paper's image tasks. This package
imports torch; ``modgraph`` imports it on first use only.
"""

from modgraph.sculpt.choose import (
    Consensus,
    by_consensus,
    consensus,
    fewest_edges,
    fewest_joined_inputs,
    smallest_cones,
)
from modgraph.sculpt.contradictions import least_contradicting, with_confidence
from modgraph.sculpt.digits import Digits, ImageTask, digit_pairs, load_digits8, load_mnist
from modgraph.sculpt.estimator import SculptedMLP
from modgraph.sculpt.fit import WideSettings
from modgraph.sculpt.module import ModuleResult, sculpt_module
from modgraph.sculpt.objective import LOSSES, METRICS
from modgraph.sculpt.prune import Schedule
from modgraph.sculpt.rounds import Round, draw_history
from modgraph.sculpt.search import EDGE_STEPS, UNIT_STEPS, SculptedNetwork, SculptResult, sculpt
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.tasks import SplitTask, Task, as_task
from modgraph.sculpt.train import TrainSettings
from modgraph.sculpt.wide import WideResult, sculpt_wide

__all__ = [
    "EDGE_STEPS",
    "LOSSES",
    "METRICS",
    "UNIT_STEPS",
    "Consensus",
    "Digits",
    "ImageTask",
    "ModuleResult",
    "Round",
    "Schedule",
    "SculptResult",
    "SculptedMLP",
    "SculptedNetwork",
    "SplitTask",
    "StackedMLP",
    "Task",
    "TrainSettings",
    "WideResult",
    "WideSettings",
    "as_task",
    "by_consensus",
    "consensus",
    "digit_pairs",
    "draw_history",
    "fewest_edges",
    "fewest_joined_inputs",
    "least_contradicting",
    "load_digits8",
    "load_mnist",
    "sculpt",
    "sculpt_module",
    "sculpt_wide",
    "smallest_cones",
    "with_confidence",
]

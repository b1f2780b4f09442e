"""Sculpting: train networks on a task, and prune each as far as it stays accurate.

Most programs need `sculpt`, for thousands of small networks, `sculpt_wide`, for one large network, and `digit_pairs`,
which makes the paper's image tasks. This package imports torch; ``modgraph`` imports it on first use only.
"""

from modgraph.sculpt.choose import Consensus, by_consensus, consensus, fewest_edges, smallest_cones
from modgraph.sculpt.digits import Digits, ImageTask, digit_pairs, load_digits8, load_mnist
from modgraph.sculpt.fit import WideSettings
from modgraph.sculpt.prune import Schedule
from modgraph.sculpt.search import EDGE_STEPS, UNIT_STEPS, SculptedNetwork, SculptResult, sculpt
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.state import Round
from modgraph.sculpt.tasks import SplitTask, Task, as_task
from modgraph.sculpt.train import TrainSettings
from modgraph.sculpt.wide import WideResult, sculpt_wide

__all__ = [
    "EDGE_STEPS",
    "UNIT_STEPS",
    "Consensus",
    "Digits",
    "ImageTask",
    "Round",
    "Schedule",
    "SculptResult",
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
    "fewest_edges",
    "load_digits8",
    "load_mnist",
    "sculpt",
    "sculpt_wide",
    "smallest_cones",
]

"""Sculpting: train a stack of networks on a task, and prune each as far as it stays right.

The functions most programs need are `sculpt`, for small networks by the thousand, and `sculpt_wide`, for one large
network; `digit_pairs` makes the paper's image tasks. The rest is for those who want to look inside: `StackedMLP` (many
networks in one set of tensors), `TrainSettings`, and the pruning schedule. This package brings torch, so ``modgraph``
itself loads it on first use only.
"""

from modgraph.sculpt.digits import Digits, ImageTask, digit_pairs, load_digits8, load_mnist
from modgraph.sculpt.fit import WideSettings
from modgraph.sculpt.prune import Schedule
from modgraph.sculpt.search import (
    EDGE_STEPS,
    UNIT_STEPS,
    SculptedNetwork,
    SculptResult,
    fewest_edges,
    sculpt,
)
from modgraph.sculpt.stack import StackedMLP
from modgraph.sculpt.state import Round
from modgraph.sculpt.tasks import SplitTask, Task, as_task
from modgraph.sculpt.train import TrainSettings
from modgraph.sculpt.wide import WideResult, sculpt_wide

__all__ = [
    "EDGE_STEPS",
    "UNIT_STEPS",
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
    "digit_pairs",
    "fewest_edges",
    "load_digits8",
    "load_mnist",
    "sculpt",
    "sculpt_wide",
]

"""Sculpting: train a stack of networks on a task, and prune each as far as it stays right.

The one function most programs need is `sculpt`. The rest is for those who want to look inside:
`StackedMLP` (many networks in one set of tensors), `TrainSettings`, and the pruning schedule.
This package brings torch, so ``modgraph`` itself loads it on first use only.
"""

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
from modgraph.sculpt.tasks import Task, as_task
from modgraph.sculpt.train import TrainSettings

__all__ = [
    "EDGE_STEPS",
    "UNIT_STEPS",
    "Schedule",
    "SculptResult",
    "SculptedNetwork",
    "StackedMLP",
    "Task",
    "TrainSettings",
    "as_task",
    "fewest_edges",
    "sculpt",
]

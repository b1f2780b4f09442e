"""The paper's experiments as resumable sweeps. Importing this package loads torch."""

from modgraph.experiments.published import EXPERIMENTS, Cell, PublishedSettings, published_cells, published_settings
from modgraph.experiments.store import Store, StoredNetwork
from modgraph.experiments.sweep import Trial, sweep

__all__ = [
    "EXPERIMENTS",
    "Cell",
    "PublishedSettings",
    "Store",
    "StoredNetwork",
    "Trial",
    "published_cells",
    "published_settings",
    "sweep",
]

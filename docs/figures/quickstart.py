"""The network of the quickstart, made by the code of that page."""

import re
from pathlib import Path

import matplotlib.pyplot as plt

import modgraph as mg

page = Path("../quickstart.md").read_text(encoding="utf-8")  # pictures are drawn in the folder docs/figures
names: dict[str, object] = {}
exec(re.search(r"```{testcode}\n(.*?)```", page, re.DOTALL)[1], names)  # the first block: trained and pruned
figure, ax = plt.subplots(figsize=(5.5, 3.6))
mg.draw(mg.detect_modules(mg.from_module(names["model"])), ax=ax)

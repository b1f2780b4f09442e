"""
Any scikit-learn MLP
====================

One perceptron learns two tasks at once: the species of an iris and the grower of a wine. It reads the measurements of
both side by side. Its weights are pruned by magnitude in rounds, with some training after each round, as long as it
stays accurate on flowers and wines that it has not seen. The pruned network separates the two tasks.
"""

import copy
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_iris, load_wine
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

import modgraph as mg

# %%
# Flowers and wines are paired at random. Training and test pairs have no flower or wine in common.
rng = np.random.default_rng(0)
iris, wine = load_iris(as_frame=True), load_wine(as_frame=True)
iris.data.columns = iris.data.columns.str.removesuffix(" (cm)")
wine.data.columns = wine.data.columns.str.replace("_", " ").str.replace("od280/od315 of diluted wines", "OD 280/315")
parts = [train_test_split(np.arange(len(one.target)), test_size=0.4, random_state=0) for one in (iris, wine)]


def pairs(part: int) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Draw 2,000 pairs to train with (part 0) or to test with (1): measurements, and species and grower as six bits."""
    drawn = [rng.choice(split[part], 2000) for split in parts]
    both = [*zip((iris, wine), drawn, strict=True)]
    table = pd.concat([one.data.iloc[rows].reset_index(drop=True) for one, rows in both], axis=1)
    return table, np.hstack([np.eye(3, dtype=np.int64)[one.target[rows]] for one, rows in both])


inputs, bits = pairs(0)
new_inputs, new_bits = pairs(1)
scaler = StandardScaler().set_output(transform="pandas").fit(inputs)
inputs, new_inputs = scaler.transform(inputs), scaler.transform(new_inputs)


def accuracy(mlp: MLPClassifier) -> NDArray[np.float64]:
    """Return the share of new flowers and of new wines that are classified correctly."""
    chance = mlp.predict_proba(new_inputs).reshape(-1, 2, 3)
    right = chance.argmax(axis=2) == new_bits.reshape(-1, 2, 3).argmax(axis=2)
    return np.asarray(right.mean(axis=0))


# %%
# Train, then prune: each round removes the smallest seventh of the remaining weights. scikit-learn has no masks, so the
# pruned weights are set to 0 again after each pass.
mlp = MLPClassifier((16, 12), learning_rate_init=0.01, tol=1e-3, max_iter=500, random_state=0).fit(inputs, bits)
kept, dense = 1.0, accuracy(mlp)
rounds = [(kept, dense, mlp)]
while kept > 0.05:
    mlp, kept = copy.deepcopy(mlp), kept * 6 / 7
    smallest = np.quantile(np.concatenate([np.abs(weights).ravel() for weights in mlp.coefs_]), 1 - kept)
    masks = [np.abs(weights) > smallest for weights in mlp.coefs_]
    for _ in range(8):
        mlp.partial_fit(inputs, bits)
        for weights, mask in zip(mlp.coefs_, masks, strict=True):
            weights *= mask
    rounds.append((kept, accuracy(mlp), mlp))

# %%
# The smallest network that is nearly as accurate as the dense one:
kept, right, pruned = min((one for one in rounds if (one[1] > dense - 0.02).all()), key=lambda one: one[0])
dag = mg.from_estimator(pruned)
print(f"{kept:.0%} of the weights, right for {right[0]:.1%} of the flowers and {right[1]:.1%} of the wines")
print(dag)

# %%
# The inputs have the names of the columns; names of the outputs are added here. No module reads both a flower and a
# wine. An output may have lost all its edges. The network predicts that grower if neither of the others is likely.
names = np.array(dag.unit_names)
names[-6:] = [*iris.target_names, "grower 0", "grower 1", "grower 2"]
dag = replace(dag, unit_names=names)
found = mg.detect_modules(dag)
print(found)

# %%
# Left: accuracy by share of weights kept. Right: the network at the dotted line.
figure, (curve, drawing) = plt.subplots(1, 2, figsize=(10.5, 5), width_ratios=[1, 2])
figure.subplots_adjust(left=0.06, right=0.995, bottom=0.11, top=0.92, wspace=0.04)
shares = [100 * one[0] for one in rounds]
for at, name in enumerate(("flowers", "wines")):
    curve.semilogx(shares, [100 * one[1][at] for one in rounds], "o-", color=("C4", "C3")[at], label=name)
curve.axvline(100 * kept, color="0.6", linestyle=":")
curve.set(xlabel="weights kept (%)", title="accuracy on new ones (%)", xticks=[100, 50, 20, 10, 5])
curve.set_xticklabels(["100", "50", "20", "10", "5"])
curve.legend(loc="lower right")
mg.draw(found, ax=drawing)
plt.show()

"""Training steps per second of the compiled kernel, beside those of another commit.

Usage: python -m tests.long.kernel_speed COMMIT

Trains 64 networks [4, 24, 24, 4] with batches of 8 in two processes that take turns, one with the package of this
working tree, the other with that of COMMIT. Prints network-steps per second of processor time, best and median of 25
turns each, and their ratios.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

N_TURNS = 25

TRAIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
import modgraph
assert modgraph.__file__.startswith(sys.argv[1]), modgraph.__file__
from modgraph.sculpt import kernel
from modgraph.sculpt.stack import initial_stack
from modgraph.sculpt.tasks import Task
from modgraph.sculpt.train import TrainSettings, draw
torch.set_num_threads(1)
bits = torch.tensor([[number >> bit & 1 for bit in range(4)] for number in range(16)]).float()
task = Task(inputs=bits, targets=torch.randint(2, (16, 4), generator=torch.Generator().manual_seed(0)).float())
settings = TrainSettings(learning_rate=0.05, batch_size=8, epochs=300)
stack = initial_stack((4, 24, 24, 4), seeds=list(range(64)))
draws = draw(task, settings=settings, keys=[(0, 0, 0)])
stream = torch.zeros(64, dtype=torch.int64)
for _ in iter(sys.stdin.readline, ""):
    start = time.process_time()
    kernel.train(stack, draws=draws, stream=stream, task=task, settings=settings)
    print(64 * settings.epochs * 2 / (time.process_time() - start), flush=True)
"""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    root = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", root, "archive", sys.argv[1], "modgraph"], check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", TRAIN, str(place)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=folder,
            )
            for place in (folder, root)
        ]
        rates: list[list[float]] = [[], []]
        for turn in range(N_TURNS + 1):
            for which in (0, 1) if turn % 2 else (1, 0):
                process = processes[which]
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                rates[which].append(float(process.stdout.readline()))
        for process in processes:
            process.communicate()
    old, new = (part[1:] for part in rates)  # the first turn compiles
    for name, part in ((sys.argv[1], old), ("now", new)):
        print(f"{name}: best {max(part):,.0f} network-steps/s, median {median(part):,.0f}")
    print(f"now / {sys.argv[1]}: best {max(new) / max(old):.2f}, median {median(new) / median(old):.2f}")


if __name__ == "__main__":
    main()

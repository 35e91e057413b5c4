"""How many tokens does a third of a second need?"""

from salmonn_lab.experiment import Sweep, grid

SWEEP = Sweep(
    base="configs/ablation.yaml",
    baseline={"model.bridge.num_queries": 1},
    runs=grid({"model.bridge.num_queries": [1, 2, 4, 8], "seed": [0, 1, 2]}),
)

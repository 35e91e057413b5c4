"""How many tokens does a third of a second need at 7B?

Data as in configs/stage1_pretrain.yaml; `python -m salmonn_lab.prepare` makes the manifests of the benchmarks.
"""

from salmonn_lab.experiment import Sweep, grid

FIXED = {"evaluation.benchmarks": [["librispeech_test_clean", "audiocaps"]], "evaluation.before": [[]]}
SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base=("configs/salmonn_7b.yaml", "configs/stage1_pretrain.yaml"),
    baseline={"model.bridge.num_queries": 1},
    runs=grid({"model.bridge.num_queries": [1, 2, 4, 8], **FIXED, **SEEDS}),
)

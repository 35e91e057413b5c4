"""How many tokens does a third of a second need at 7B?

Data as in configs/stage1_pretrain.yaml; the benchmarks are manifests that `python -m salmonn_lab.prepare` writes.
"""

from salmonn_lab.experiment import Sweep, grid

FIXED = {"evaluation.benchmarks": [["librispeech_test-clean.jsonl", "audiocaps_test.jsonl"]], "evaluation.before": [[]]}
SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base=("configs/salmonn_7b.yaml", "configs/stage1_pretrain.yaml"),
    baseline={"model.bridge.num_queries": 1},
    runs=grid({"model.bridge.num_queries": [1, 2, 4, 8], **FIXED, **SEEDS}),
)

"""Does it matter at 7B that a window is read alone, once both bridges spend the same 88 tokens on 30 seconds?

Data as in configs/stage1_pretrain.yaml; `python -m salmonn_lab.prepare` makes the manifests of the benchmarks.
"""

from salmonn_lab.experiment import Sweep, grid

FIXED = {"evaluation.benchmarks": [["librispeech_test_clean", "audiocaps"]], "evaluation.before": [[]]}
SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base=("configs/salmonn_7b.yaml", "configs/stage1_pretrain.yaml"),
    baseline={"model.bridge.level": "window"},
    runs=[
        *grid({"model.bridge.level": ["window"], "model.bridge.num_queries": [1], **FIXED, **SEEDS}),
        *grid({"model.bridge.level": ["sequence"], "model.bridge.num_queries": [1, 88], **FIXED, **SEEDS}),
    ],
)

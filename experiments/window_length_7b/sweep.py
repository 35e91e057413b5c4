"""How long may a window be that becomes one token at 7B? Windows do not overlap; a third of a second was published.

Data as in configs/stage1_pretrain.yaml; `python -m salmonn_lab.prepare` makes the manifests of the benchmarks.
"""

from salmonn_lab.experiment import Sweep, grid

FIXED = {"evaluation.benchmarks": [["librispeech_test_clean", "audiocaps"]], "evaluation.before": [[]]}
SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base=("configs/salmonn_7b.yaml", "configs/stage1_pretrain.yaml"),
    baseline={"model.bridge.window_seconds": 0.333333},
    runs=[
        run
        for seconds in (0.2, 0.333333, 0.5, 1.0)
        for run in grid(
            {"model.bridge.window_seconds": [seconds], "model.bridge.stride_seconds": [seconds], **FIXED, **SEEDS}
        )
    ],
)

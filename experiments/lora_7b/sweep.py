"""Does a 7B LLM need to learn at all, and if so, at what rank? alpha / rank stays 4, as published.

Data as in configs/stage1_pretrain.yaml; `python -m salmonn_lab.prepare` makes the manifests of the benchmarks.
"""

from salmonn_lab.experiment import Sweep, grid

FIXED = {"evaluation.benchmarks": [["librispeech_test_clean", "audiocaps"]], "evaluation.before": [[]]}
SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base=("configs/salmonn_7b.yaml", "configs/stage1_pretrain.yaml"),
    baseline={"model.lora.rank": 8},
    runs=[
        *grid({"model.lora": [None], **FIXED, **SEEDS}),
        *[
            run
            for rank in (4, 8, 32)
            for run in grid({"model.lora.rank": [rank], "model.lora.alpha": [4.0 * rank], **FIXED, **SEEDS})
        ],
    ],
)

"""Does the LLM need to learn at all, and if so, at what rank? alpha / rank stays 4, as published."""

from salmonn_lab.experiment import Sweep, grid

SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base="configs/ablation.yaml",
    baseline={"model.lora.rank": 8},
    runs=[
        *grid({"model.lora": [None], **SEEDS}),
        *[
            run
            for rank in (4, 8, 32)
            for run in grid({"model.lora.rank": [rank], "model.lora.alpha": [4.0 * rank], **SEEDS})
        ],
    ],
)

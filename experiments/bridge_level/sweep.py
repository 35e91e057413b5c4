"""Does it matter that a window is read alone, once the Q-Former of the whole clip spends as many tokens?

Clips of the quickstart last 1.81 s on average, which is 5.3 windows of 17 frames: 1 query for each spends 6 tokens,
2 spend 11. That is what the sequence-level bridges get for any clip.
"""

from salmonn_lab.experiment import Sweep, grid

SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base="configs/ablation.yaml",
    baseline={"model.bridge.level": "window", "model.bridge.num_queries": 2},
    compare=[("windows, 1 query each", "whole clip, 6 queries")],
    runs=[
        *grid({"model.bridge.level": ["window"], "model.bridge.num_queries": [1], **SEEDS}, "windows, 1 query each"),
        *grid({"model.bridge.level": ["window"], "model.bridge.num_queries": [2], **SEEDS}, "windows, 2 queries each"),
        *grid(
            {"model.bridge.level": ["sequence"], "model.bridge.num_queries": [6, 11], **SEEDS},
            label="whole clip, {num_queries} queries",
        ),
    ],
)

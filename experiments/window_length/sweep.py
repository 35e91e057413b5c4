"""How long may a window be that becomes two tokens?

Windows do not overlap; the published one is a third of a second.
"""

from salmonn_lab.experiment import Sweep

SWEEP = Sweep(
    base="configs/ablation.yaml",
    baseline={"model.bridge.window_seconds": 0.333333},
    runs=[
        {"model.bridge.window_seconds": seconds, "model.bridge.stride_seconds": seconds, "seed": seed}
        for seconds in (0.2, 0.333333, 0.5, 1.0)
        for seed in (0, 1, 2)
    ],
)

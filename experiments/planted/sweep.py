"""Does the report tell a difference that is there from one that is not?

Four settings: the base; the base again under another name, with seeds of its own (how often checkpoints are written
changes nothing that is learned); the base without its encoder of sounds, which has to show where sounds are named; and
without Whisper, which has to show wherever speech is understood.
"""

from salmonn_lab.experiment import Sweep, grid

SWEEP = Sweep(
    base="configs/ablation.yaml",
    baseline={"checkpoint_every": 250},
    runs=[
        *grid({"checkpoint_every": [250], "seed": [0, 1, 2]}),
        *grid({"checkpoint_every": [251], "seed": [3, 4, 5]}),
        *grid({"model.audio_encoder": [None], "seed": [0, 1, 2]}),
        *grid({"model.whisper": [None], "seed": [0, 1, 2]}),
    ],
)

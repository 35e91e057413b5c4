"""What does an encoder of sounds add to Whisper, and what does it cost the understanding of speech?"""

from salmonn_lab.experiment import Sweep, grid

SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base="configs/ablation.yaml",
    baseline={"model.audio_encoder.kind": "yamnet"},
    runs=[
        *grid({"model.audio_encoder.kind": ["yamnet"], **SEEDS}),
        *grid({"model.audio_encoder": [None], **SEEDS}),
    ],
)

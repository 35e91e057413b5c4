"""What does BEATs add to Whisper at 7B, and what does it cost the understanding of speech?

Data as in configs/stage1_pretrain.yaml; `python -m salmonn_lab.prepare` makes the manifests of the benchmarks.
"""

from salmonn_lab.experiment import Sweep, grid

FIXED = {"evaluation.benchmarks": [["librispeech_test_clean", "audiocaps"]], "evaluation.before": [[]]}
SEEDS = {"seed": [0, 1, 2]}
SWEEP = Sweep(
    base=("configs/salmonn_7b.yaml", "configs/stage1_pretrain.yaml"),
    baseline={"model.audio_encoder.kind": "beats"},
    runs=[
        *grid({"model.audio_encoder.kind": ["beats"], **FIXED, **SEEDS}),
        *grid({"model.audio_encoder": [None], **FIXED, **SEEDS}),
    ],
)

"""YAMNet, the AudioSet event encoder: log-mel patches of 0.96 s through a MobileNet, as features at 50 Hz.

Plakal and Ellis, https://github.com/tensorflow/models/tree/master/research/audioset/yamnet
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from salmonn_lab.batch import Frames
from salmonn_lab.files import read_json_object
from salmonn_lab.model.pretrained import check_weights
from salmonn_lab.plain import reason

SAMPLE_RATE = 16_000
WINDOW, HOP, FFT_SIZE = 400, 160, 512
MEL_BINS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7_500.0
LOG_OFFSET = 0.001
PATCH_MEL_FRAMES = 96
PATCH_SAMPLES = PATCH_MEL_FRAMES * HOP
FRAME_SAMPLES = SAMPLE_RATE // 50
PATCH_FRAMES = PATCH_SAMPLES // FRAME_SAMPLES
CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
PATCHES_AT_ONCE = 32
"""More of them leave a CPU's cache: on two cores 32 at once take 1.7 to 2.8 ms each, 512 take 3.8."""


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)


def _mel_filters(device: torch.device) -> Float[Tensor, "bins mels"]:
    """Return TensorFlow's `linear_to_mel_weight_matrix`: triangles that are linear in mel (torchaudio's are in Hz)."""
    bins = _mel(torch.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1, dtype=torch.float64))
    limits = _mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(limits[0], limits[1], MEL_BINS + 2, dtype=torch.float64)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - lower) / (centre - lower)
    falling = (upper - bins[:, None]) / (upper - centre)
    return torch.minimum(rising, falling).clamp(min=0).to(device, torch.float32)


def _log_mel(patches: Float[Tensor, "patches samples"]) -> Float[Tensor, "patches 96 64"]:
    """Return the log-mel of patches of PATCH_SAMPLES, each followed by the samples its last windows still reach.

    The window and the filters are made at each call (well under a millisecond), so that a model cast to bfloat16
    keeps an exact front end.
    """
    # TensorFlow pads the windowed frame at its end, torch.stft at both: hence a window of the FFT's own size.
    window = functional.pad(torch.hann_window(WINDOW, device=patches.device), (0, FFT_SIZE - WINDOW))
    with torch.autocast(patches.device.type, enabled=False):
        spectrum = torch.stft(patches, FFT_SIZE, HOP, FFT_SIZE, window, center=False, return_complex=True)
        mel = spectrum.abs().transpose(1, 2) @ _mel_filters(patches.device)
        return torch.log(mel + LOG_OFFSET)


class Yamnet(nn.Module):
    """The convolutions of YAMNet with their batch norms folded in, and its AudioSet classifier where it was kept.

    For frozen use: nothing in it drops out or gathers statistics. A clip's features depend on its own samples alone.
    """

    dim = CHANNELS[-1]
    repeats = PATCH_FRAMES // 3
    """How many frames in a row are the same vector."""

    def __init__(self, class_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.class_names = list(class_names)
        convolutions = [nn.Conv2d(1, CHANNELS[0], 3, stride=2)]
        for channels, wider, stride in zip(CHANNELS[:-1], CHANNELS[1:], STRIDES, strict=True):
            padding = 1 if stride == 1 else 0
            convolutions.append(nn.Conv2d(channels, channels, 3, stride, padding, groups=channels))
            convolutions.append(nn.Conv2d(channels, wider, 1))
        for convolution in convolutions:
            # PyTorch's own start would fade through 27 layers: untrained features would not depend on the audio.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, convolution.bias))
        self.convolutions = nn.ModuleList(convolutions)
        self.classifier = nn.Linear(self.dim, len(self.class_names)) if self.class_names else None

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Yamnet:
        """Load `config.json` and `model.safetensors` from a folder; the model comes back frozen, in eval mode.

        Raises:
            ValueError: the folder lacks one of the files, or holds another model.
        """
        for name in ("config.json", "model.safetensors"):
            if not (Path(folder) / name).is_file():
                raise ValueError(f"{folder} is no YAMNet checkpoint: it has no {name}")
        config = read_json_object(Path(folder) / "config.json")
        if config.get("model_type") != "yamnet":
            raise ValueError(f"{folder}/config.json has model_type {config.get('model_type')!r}, expected 'yamnet'")
        names = config.get("class_names", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{folder}/config.json: class_names must be a list of texts, got {names!r:.80}")
        model, file = cls(names), Path(folder) / "model.safetensors"
        try:
            state = load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} cannot be read: {reason(error)}") from error
        check_weights(state, str(file))
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{file} does not fit YAMNet: {str(error).splitlines()[-1].strip()}") from error
        return model.eval().requires_grad_(False)

    @classmethod
    def skeleton(cls, folder: str | Path) -> Yamnet:
        """Return the network without a checkpoint's weights: there is one size."""
        return cls()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what `from_pretrained` reads."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        config = {"model_type": "yamnet", "class_names": self.class_names}
        (Path(folder) / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(weights, Path(folder) / "model.safetensors", metadata={"format": "pt"})

    def forward(self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]) -> Frames:
        """Encode 16 kHz clips; a clip of n samples has ceil(n / 320) real frames, at least one.

        Each patch of 0.96 s gives three vectors, each repeated 16 times to reach 50 Hz. What is not real is zero.
        """
        vectors, real = self._vectors(waveforms, lengths)
        features = vectors.new_zeros(*real.shape, PATCH_FRAMES, self.dim)
        features[real] = vectors.repeat_interleave(self.repeats, dim=1)
        counts = lengths.clamp(min=1).add(FRAME_SAMPLES - 1) // FRAME_SAMPLES
        frames = int(counts.max())
        mask = torch.arange(frames, device=lengths.device) < counts[:, None]
        return Frames(features.flatten(1, 2)[:, :frames] * mask[..., None], mask, self.repeats)

    def classify(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the score of every class in `class_names`, from the mean over the patches of each clip.

        Raises:
            ValueError: the checkpoint was saved without its classifier.
        """
        if self.classifier is None:
            raise ValueError("this YAMNet checkpoint has no classifier: config.json lists no class_names")
        vectors, real = self._vectors(waveforms, lengths)
        patches = vectors.new_zeros(*real.shape, self.dim)
        patches[real] = vectors.mean(dim=1)
        logits: Tensor = self.classifier(patches.sum(dim=1) / real.sum(dim=1, keepdim=True))
        return logits.sigmoid()

    def _vectors(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "real 3 dim"], Bool[Tensor, "batch patches"]]:
        """Return three vectors for every patch that holds audio, and where in the batch these patches are."""
        counts = lengths.clamp(min=1).add(PATCH_SAMPLES - 1) // PATCH_SAMPLES
        patches = int(counts.max())
        real = torch.arange(patches, device=lengths.device) < counts[:, None]
        # The mel frames after a clip's end see zeros alone: they are the log-mel of silence that fills its last patch.
        own = torch.arange(waveforms.shape[1], device=lengths.device) < lengths[:, None]
        overlap = FFT_SIZE - HOP
        samples = functional.pad(
            waveforms.float().masked_fill(~own, 0.0), (0, patches * PATCH_SAMPLES + overlap - waveforms.shape[1])
        )
        log_mel = _log_mel(samples.unfold(1, PATCH_SAMPLES + overlap, PATCH_SAMPLES)[real])
        log_mel = log_mel[:, None].to(cast(Tensor, self.convolutions[0].weight).dtype)
        return torch.cat([self._convolve(some) for some in torch.split(log_mel, PATCHES_AT_ONCE)]), real

    def _convolve(self, patches: Float[Tensor, "patches 1 96 64"]) -> Float[Tensor, "patches 3 dim"]:
        x = patches
        for module in self.convolutions:
            convolution = cast(nn.Conv2d, module)
            if convolution.stride == (2, 2):
                # TensorFlow's SAME padding of an even size, stride 2: nothing before, one after.
                x = functional.pad(x, (0, 1, 0, 1))
            if convolution.kernel_size == (1, 1):
                # One matrix product for all patches. PyTorch's convolution on a CPU makes one for each, which in the
                # last layers has six columns.
                x = functional.linear(x.movedim(1, -1), convolution.weight[..., 0, 0], convolution.bias).movedim(-1, 1)
            else:
                x = convolution(x)
            x = functional.relu(x, inplace=True)
        return x.mean(dim=3).transpose(1, 2)

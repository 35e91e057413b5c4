"""Clips longer than 30 s are encoded 30 s at a time, and windows run on across the seams."""

import copy
from pathlib import Path

import pytest
import torch
from samples import waveform

from salmonn_lab.data.audio import AudioReading
from salmonn_lab.model.config import WhisperConfig
from salmonn_lab.model.encoders import AudioEncoderConfig, Encoders
from salmonn_lab.salmonn import ModelConfig, Salmonn

PROMPT = "USER: <SpeechHere>\nASSISTANT:"


def clip(seconds: float, seed: int) -> torch.Tensor:
    return torch.from_numpy(waveform(seconds, seed))


@pytest.fixture(scope="module", params=["yamnet", "beats"])
def encoders(request: pytest.FixtureRequest, tiny: Path) -> Encoders:
    audio = AudioEncoderConfig(request.param, str(tiny / ("yamnet" if request.param == "yamnet" else "beats.pt")))
    return Encoders(WhisperConfig(str(tiny / "whisper")), audio, thirty_seconds=False)


def test_a_long_clip_gives_the_frames_of_its_parts_one_after_the_other(encoders: Encoders) -> None:
    wave = clip(70.0, 1)
    whole = encoders(wave[None], torch.tensor([len(wave)]))
    for start in range(0, len(wave), 480_000):
        part = wave[None, start : start + 480_000]
        for long, alone in zip(whole, encoders(part, torch.tensor([part.shape[1]])), strict=True):
            first, count = start // 320, alone.features.shape[1]
            torch.testing.assert_close(long.features[:, first : first + count], alone.features)
            assert torch.equal(long.mask[:, first : first + count], alone.mask)
    assert whole[0].mask.sum() == 3500


def test_a_long_clip_does_not_depend_on_the_short_one_beside_it(encoders: Encoders) -> None:
    clips = [clip(2.0, 2), clip(31.5, 3), clip(30.0, 4)]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    together = encoders(batch, torch.tensor([len(wave) for wave in clips]))
    for row, wave in enumerate(clips):
        for joined, alone in zip(together, encoders(wave[None], torch.tensor([len(wave)])), strict=True):
            assert joined.mask[row].sum() == alone.mask.sum()
            torch.testing.assert_close(
                joined.features[row][joined.mask[row]], alone.features[alone.mask], atol=1e-5, rtol=1e-5
            )


def test_windows_run_on_across_the_seam(tiny: Path, tiny_config: ModelConfig) -> None:
    config = copy.deepcopy(tiny_config)
    config.audio_encoder = AudioEncoderConfig("beats", str(tiny / "beats.pt"))
    model = Salmonn(config, reading=AudioReading(max_seconds=40.0)).eval()
    wave = clip(40.0, 5)
    tokens = model.audio_tokens([wave])
    assert tokens.mask.sum() == -(-(2000 - 17) // 17) + 1
    frames = model.encode(model.make_batch([wave], [PROMPT]))
    projected, mask = model.bridge.project(frames)
    seam = 1500 // 17  # the window that holds the last frames of the first part and the first of the second
    alone = model.bridge.read(projected[:, seam * 17 : seam * 17 + 17], mask[:, seam * 17 : seam * 17 + 17])
    torch.testing.assert_close(tokens.embeds[:, seam], alone[:, 0], atol=1e-5, rtol=1e-5)
    assert model.listen([wave], [PROMPT], max_new_tokens=3, num_beams=1)

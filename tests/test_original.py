"""The original SALMONN's numbers, from its own checkpoints: tokens, log-probabilities, losses, gradients and texts."""

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from salmonn_lab.data.audio import AudioReading
from salmonn_lab.model.checkpoint import to_original
from salmonn_lab.salmonn import Salmonn

GOLDEN = Path(__file__).parent / "golden" / "original"
META = json.loads((GOLDEN / "meta.json").read_text())
CASES: dict[str, dict[str, Any]] = META["cases"]
ORDERS = ([0], [1], [2], [0, 1, 2], [2, 1, 0])
TARGETS = [sample["target"] for sample in META["samples"]]
PAD_ROW = META["pad_row_value"]


def load(case: str, llm: Path = GOLDEN / "llama") -> Salmonn:
    beats = CASES[case]["config"]["beats_path"]
    return Salmonn.from_original(
        GOLDEN / f"{case}.pth",
        whisper=str(GOLDEN / "whisper"),
        llm=str(llm),
        beats=str(GOLDEN / beats) if beats else None,
        num_heads=CASES[case]["qformer"]["num_attention_heads"],
    )


@pytest.fixture(scope="module")
def padded_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the LLM as the original makes it: one row more in both tables, for `[PAD]`."""
    folder = tmp_path_factory.mktemp("padded")
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "llama")
    model.resize_token_embeddings(model.config.vocab_size + 1, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[-1] = PAD_ROW
        model.get_output_embeddings().weight[-1] = PAD_ROW
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(GOLDEN / "llama").save_pretrained(folder)
    return folder


def waves(order: list[int]) -> list[torch.Tensor]:
    stored = load_file(GOLDEN / "waves.safetensors")
    return [stored[META["samples"][index]["wave"]] for index in order]


def prompts(case: str, order: list[int]) -> list[str]:
    return [CASES[case]["samples"][index]["prompt"] for index in order]


QUICK = "window"
"""The case that is compared at every turn; the others are with the slow tests."""
each_case = pytest.mark.parametrize(
    "case", [case if case == QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)


@each_case
def test_tokens_log_probabilities_and_texts_are_the_originals_whatever_shares_the_batch(case: str) -> None:
    model, expected = load(case), load_file(GOLDEN / f"{case}.expected.safetensors")
    for order in ORDERS:
        clips, questions = waves(order), prompts(case, order)
        audio = model.audio_tokens(clips)
        scores = model.score(clips, questions, [TARGETS[index] for index in order])
        texts = {beams: model.listen(clips, questions, num_beams=beams, max_new_tokens=12) for beams in (1, 4)}
        for row, index in enumerate(order):
            tokens = audio.embeds[row][audio.mask[row]]
            torch.testing.assert_close(tokens, expected[f"audio_tokens_{index}"], atol=2e-4, rtol=0)
            own = expected[f"answer_logits_{index}"][:, :-1].log_softmax(-1)  # the last column is [PAD]
            wanted = own.gather(1, expected[f"answer_ids_{index}"].long()[:, None])[:, 0]
            torch.testing.assert_close(scores[row], wanted, atol=2e-4, rtol=0)
            for beams, answers in texts.items():
                original = CASES[case]["samples"][index]["generated"][f"beam{beams}"]
                assert answers[row] == original.removeprefix("<s>").removesuffix("</s>").strip()


@each_case
def test_losses_are_the_originals_at_every_lora_scale(case: str, padded_llm: Path) -> None:
    model = load(case, padded_llm)
    for index, sample in enumerate(CASES[case]["samples"]):
        batch = model.make_batch(waves([index]), [sample["prompt"]], [TARGETS[index]])
        with torch.no_grad():
            assert float(model(batch)) == pytest.approx(sample["loss"], abs=1e-4)
            for scale, loss in sample["loss_at_lora_scale"].items():
                model.llm.set_lora_scale(float(scale))
                assert float(model(batch)) == pytest.approx(loss, abs=1e-4)
        if sample["loss_at_lora_scale"]:
            model.llm.set_lora_scale(4.0)


@pytest.mark.parametrize("case", CASES)
def test_gradients_of_all_trainable_weights_are_the_originals(case: str, padded_llm: Path) -> None:
    model, expected = load(case, padded_llm), load_file(GOLDEN / f"{case}.expected.safetensors")
    streams = ("speech", "audio")
    model(model.make_batch(waves([0]), prompts(case, [0]), TARGETS[:1])).backward()
    mine = {to_original(name, streams): p.grad for name, p in model.named_parameters() if p.requires_grad}
    wanted = {key.removeprefix("grad_0/"): value for key, value in expected.items() if key.startswith("grad_0/")}
    assert mine.keys() == wanted.keys()
    for name, gradient in wanted.items():
        own = mine[name]
        assert own is not None
        assert (own - gradient).abs().max() <= 1e-3 * gradient.abs().max() + 1e-6, name


def test_input_lengths_are_the_originals() -> None:
    model = load("window")
    for index, sample in enumerate(CASES["window"]["samples"]):
        batch = model.make_batch(waves([index]), [sample["prompt"]], [TARGETS[index]])
        rows = model.llm.layout(model.hear(batch), batch, target=True)
        assert int(rows.mask.sum()) == sample["input_length"]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        (["no place"], "prompt 0 must hold <SpeechHere> exactly once"),
        ([], "one prompt"),
        ("<SpeechHere>", "one prompt"),
    ],
)
def test_the_door_refuses_what_it_cannot_pair(prompts: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load("window_no_beats").listen(waves([0]), prompts)


def test_a_clip_of_over_thirty_seconds_does_not_fit_paper_mode() -> None:
    model = Salmonn(load("window").config, reading=AudioReading(max_seconds=60.0))
    with pytest.raises(ValueError, match=r"clip of 31\.0 s does not fit model\.bridge\.span=thirty_seconds"):
        model.audio_tokens([torch.zeros(31 * 16_000)])


def test_a_clip_is_read_as_the_original_reads_it(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    model, wave = load("window_no_beats"), 0.1 * torch.randn(45 * 16_000)
    soundfile.write(tmp_path / "stereo.wav", torch.stack([wave, -wave], 1).numpy(), 16_000, subtype="FLOAT")
    tokens = model.audio_tokens([wave[: 30 * 16_000]]).embeds
    assert torch.equal(model.audio_tokens([str(tmp_path / "stereo.wav")]).embeds, tokens)
    assert "stereo.wav lasts 45.00 s: cut to its first 30 s" in caplog.text
    short = torch.cat([wave[:3_200], torch.zeros(12_800)])
    assert torch.equal(model.audio_tokens([wave[:3_200]]).embeds, model.audio_tokens([short]).embeds)


def test_beats_must_be_given_where_it_was_trained_with_and_only_there() -> None:
    parts = {"whisper": str(GOLDEN / "whisper"), "llm": str(GOLDEN / "llama"), "num_heads": 4}
    with pytest.raises(ValueError, match="trained with BEATs: its file is needed"):
        Salmonn.from_original(GOLDEN / "window.pth", **parts)
    with pytest.raises(ValueError, match="trained without BEATs"):
        Salmonn.from_original(GOLDEN / "window_no_beats.pth", beats=str(GOLDEN / "beats_ft.pt"), **parts)

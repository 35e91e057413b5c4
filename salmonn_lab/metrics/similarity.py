"""How near a caption comes to its references in meaning, as a sentence encoder sees it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio
from salmonn_lab.metrics.normalize import encodable
from salmonn_lab.plain import read_plain

DIGITS = 9
ENCODER = "SALMONN_LAB_SENTENCE_ENCODER"
"""Environment variable that names a sentence encoder: a `from_pretrained` folder, or a name on the hub; FENSE's is
`sentence-transformers/paraphrase-TinyBERT-L6-v2`."""
DETECTOR = "SALMONN_LAB_FLUENCY"
"""Environment variable that names FENSE's detector of errors, `echecker_clotho_audiocaps_base.ckpt`."""
ERROR_THRESHOLD = 0.9
"""Above this probability a caption has an error (Zhou et al. 2022, arXiv:2110.04684, section 4)."""
PENALTY = 0.9
"""What an error takes off, as a share."""
DETECTOR_TOKENS = 64
"""How much of a caption the detector reads."""


class SentenceEncoder:
    """A transformer whose last hidden states are averaged over a text's tokens, as Sentence-BERT does.

    It runs in float64, and similarities are rounded to nine digits: in float32 the number of threads would show.
    """

    def __init__(self, checkpoint: str | Path, device: str | torch.device = "cpu") -> None:
        """Load weights and tokenizer.

        Args:
            checkpoint: a `from_pretrained` folder, or a name on the hub.
            device: where it runs.
        """
        self.name = Path(checkpoint).name
        self.tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))
        self.model = AutoModel.from_pretrained(str(checkpoint), dtype=torch.float64).to(device).eval()
        self.digest = hash_weights(self.model)
        """Of the weights."""

    @torch.inference_mode()
    def encode(self, text: str) -> Tensor:
        """Return a text's embedding of length 1, float64 [dim]; zeros for a text without tokens.

        Alone, not in a batch: its neighbours' padding would change its last bits.
        """
        longest = min(self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        tokens = self.tokenizer(encodable(text), return_tensors="pt", truncation=True, max_length=longest)
        if tokens["input_ids"].shape[1] == 0:
            return torch.zeros(self.model.config.hidden_size, dtype=torch.float64)
        hidden = self.model(**tokens.to(self.model.device)).last_hidden_state[0]
        mean: Tensor = hidden.mean(dim=0).cpu()
        return torch.nn.functional.normalize(mean, dim=0)


class FluencyDetector(nn.Module):
    """FENSE's detector of what captioning models get wrong: a BERT, and a linear layer over its first token.

    It was trained on captions that were broken on purpose. Float64, as the sentence encoder, and for the same reason.
    """

    tokenizer: PreTrainedTokenizerBase

    def __init__(self, checkpoint: str | Path, backbone: str | Path | None = None) -> None:
        """Load the weights.

        Args:
            checkpoint: a file of FENSE's release V0.1, `echecker_clotho_audiocaps_base.ckpt` or `_tiny.ckpt`.
            backbone: where the sizes and the tokenizer of its BERT are, a folder or a name on the hub; None is the name
                that the file gives.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no such checkpoint.
        """
        super().__init__()
        path = Path(checkpoint).expanduser()
        content = read_plain(path)
        wanted = {"model_type", "num_classes", "state_dict"}
        if not wanted <= content.keys():
            raise ValueError(f"{path} is no detector of FENSE: it must hold {', '.join(sorted(wanted))}")
        source = str(backbone or content["model_type"])
        self.name = path.stem
        self.tokenizer = AutoTokenizer.from_pretrained(source)
        self.encoder = AutoModel.from_config(AutoConfig.from_pretrained(source))
        self.clf = nn.Linear(self.encoder.config.hidden_size, content["num_classes"])
        # Older BERTs stored where their positions are; those are no weights.
        state = {name: value for name, value in content["state_dict"].items() if not name.endswith("position_ids")}
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"{path} does not fit {source}: {str(error).splitlines()[-1].strip()}") from None
        self.double().eval().requires_grad_(False)
        self.digest = hash_weights(self)
        """Of the weights."""

    @torch.inference_mode()
    def forward(self, text: str) -> float:
        """Return how probable an error is, of whatever kind: the last of the detector's classes."""
        longest = min(DETECTOR_TOKENS, self.encoder.config.max_position_embeddings)
        tokens = self.tokenizer(encodable(text), return_tensors="pt", truncation=True, max_length=longest)
        first = self.encoder(**tokens).last_hidden_state[:, 0]
        return float(self.clf(first)[0, -1].sigmoid())


def hash_weights(model: nn.Module) -> str:
    """Return eight digits that stand for a model's weights in signatures."""
    digest = hashlib.blake2b(digest_size=4)
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def named(variable: str, what: str) -> str:
    """Return what an environment variable names.

    Raises:
        FileNotFoundError: it is not set.
    """
    value = os.environ.get(variable)
    if not value:
        raise FileNotFoundError(f"{variable} must name {what}, which is no part of this kit")
    return value


# A report makes its metrics anew for every benchmark; what the environment names is loaded once.
load_encoder = lru_cache(maxsize=1)(SentenceEncoder)
load_detector = lru_cache(maxsize=1)(FluencyDetector)


class SentenceSimilarity(ItemMetric):
    """The cosine of a caption's embedding with that of each reference, averaged over references, then over items.

    This is the similarity in FENSE, without its penalty.
    """

    columns: tuple[str, ...] = ("similarity", "items")
    keys: tuple[str, ...] = ("sbert_sim",)
    higher_is_better = True

    def __init__(self, encoder: SentenceEncoder | None = None, **options: Any) -> None:
        """Build the metric.

        Args:
            encoder: what turns texts into vectors; None is the one that the environment names.
            options: of torchmetrics.

        Raises:
            FileNotFoundError: the environment names none.
        """
        super().__init__(**options)
        self.encoder = encoder or load_encoder(named(ENCODER, "a sentence encoder"))

    @property
    def signature(self) -> str:
        """Name, encoder and hash of its weights, pooling, aggregation, version."""
        return f"sbert_sim|encoder:{self.encoder.name}-{self.encoder.digest}|pool:mean|agg:mean|v1"

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Compare with every reference."""
        (row,) = self.measure_all([prediction], [references])
        return row

    def measure_all(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> Iterable[Sequence[float]]:
        """Compare each item with its references; a text that occurs again is encoded once."""
        known: dict[str, Tensor] = {}
        for text in (*preds, *(text for refs in references for text in refs)):
            if text not in known:
                known[text] = self.encoder.encode(text)
        rows = []
        for pred, refs in zip(preds, references, strict=True):
            cosines = [float(known[pred] @ known[reference]) for reference in refs]
            rows.append((round(sum(cosines) / len(cosines), DIGITS), 1.0))
        return rows

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {"sbert_sim": ratio(stats[..., 0], stats[..., 1])}


class Fense(SentenceSimilarity):
    """FENSE (Zhou et al. 2022, arXiv:2110.04684): similarity, 90 % less where its detector finds an error of fluency.

    Both parts stand beside it. A number of FENSE is that of its encoder and its detector, which the signature names.
    """

    columns = ("fense", "similarity", "errors", "items")
    keys = ("fense", "sbert_sim", "fluency_error")

    def __init__(
        self, encoder: SentenceEncoder | None = None, detector: FluencyDetector | None = None, **options: Any
    ) -> None:
        """Build the metric.

        Args:
            encoder: as in `SentenceSimilarity`.
            detector: of errors; None is the one that the environment names.
            options: of torchmetrics.

        Raises:
            FileNotFoundError: the environment lacks one of them.
        """
        what = "FENSE's detector of errors, echecker_clotho_audiocaps_base.ckpt"
        detector = detector or load_detector(named(DETECTOR, what))
        super().__init__(encoder, **options)
        # In a list: torch would take a module's weights for the metric's state.
        self.detectors = [detector]

    @property
    def signature(self) -> str:
        """Name, the signature of the similarity, the detector and hash of its weights, version."""
        detector = self.detectors[0]
        return f"fense|{super().signature}|detector:{detector.name}-{detector.digest}|v1"

    def measure_all(self, preds: Sequence[str], references: Sequence[Sequence[str]]) -> Iterable[Sequence[float]]:
        """Compare each item with its references, and look for errors; equal captions are read once."""
        (detector,) = self.detectors
        wrong = {text: float(detector(text) > ERROR_THRESHOLD) for text in dict.fromkeys(preds)}
        return [
            (round(similarity * (1 - PENALTY * wrong[pred]), DIGITS), similarity, wrong[pred], items)
            for pred, (similarity, items) in zip(preds, super().measure_all(preds, references), strict=True)
        ]

    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Average over items."""
        return {key: ratio(stats[..., place], stats[..., 3]) for place, key in enumerate(self.keys)}

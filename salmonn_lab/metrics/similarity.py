"""How near a caption comes to its references in meaning, as a sentence encoder sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from salmonn_lab.metrics.item import ItemMetric, Statistics, ratio
from salmonn_lab.metrics.normalize import encodable

DIGITS = 9


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
        digest = hashlib.blake2b(digest_size=4)
        for name, weight in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
        self.digest = digest.hexdigest()
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


class SentenceSimilarity(ItemMetric):
    """The cosine of a caption's embedding with that of each reference, averaged over references, then over items.

    This is the similarity in FENSE, which further takes 90 % off where its own detector finds an error of fluency. That
    detector is no part of this kit, so the score does not bear FENSE's name.
    """

    columns = ("similarity", "items")
    keys = ("sbert_sim",)
    higher_is_better = True

    def __init__(self, encoder: SentenceEncoder, **options: Any) -> None:
        super().__init__(**options)
        self.encoder = encoder

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

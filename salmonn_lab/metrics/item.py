"""`ItemMetric`, the base of every score: it keeps a row of sums for each item instead of one running total."""

from __future__ import annotations

import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

Statistics = NDArray[np.float64]
Value = TypeVar("Value")


class Items(NamedTuple):
    """The rows of a metric, one per item, in the order of the hashed ids: equal however the items came in."""

    ids: Tensor
    """int64 [items], see `item_number`."""
    stats: Tensor
    """float64 [items, columns]."""


def item_number(id: str) -> int:
    """Return 63 bits of an id's hash: what stands for the id in a tensor, on every rank and in every run."""
    return int.from_bytes(hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 1


def item_numbers(ids: Sequence[str]) -> NDArray[np.int64]:
    """Return `item_number` of many ids."""
    hashes = [hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest() for id in ids]
    return (np.frombuffer(b"".join(hashes), dtype=">u8") >> np.uint64(1)).astype(np.int64)


def ratio(numerator: Statistics, denominator: Statistics) -> Statistics:
    """Return the quotient, nan where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator == 0, np.nan, numerator / denominator)


class ItemMetric(Metric):
    """A score over texts that keeps each item's sufficient statistics under the item's id.

    A subclass names its `columns` and `keys`, measures one item in `measure` (or many at once in `measure_all`, where a
    start costs more than an item) and turns summed rows into scores in `score`. Items may come in any order, batch
    split or rank split, and more than once, as padded samplers repeat them: each counts once, and the scores are equal
    to the last bit.
    """

    columns: tuple[str, ...]
    """What the numbers of an item's row are."""
    summable: ClassVar[bool] = True
    """Whether sums of rows are all that the scores need, as a bootstrap over sums takes for granted."""
    full_state_update = False
    is_differentiable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ids: list[Tensor] | Tensor
        self.stats: list[Tensor] | Tensor
        self.add_state("ids", default=[], dist_reduce_fx="cat", persistent=True)
        self.add_state("stats", default=[], dist_reduce_fx="cat", persistent=True)
        self._names: dict[int, str] = {}

    @property
    @abstractmethod
    def keys(self) -> tuple[str, ...]:
        """The names of the scores, the main one first."""

    @property
    @abstractmethod
    def signature(self) -> str:
        """How the scores are made, as in `wer|norm:whisper_en@2|agg:corpus|v1`: only equal signatures compare."""

    @abstractmethod
    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Return one item's row."""

    def units(self, key: str) -> str | None:
        """Name of the column that counts what the score is a fraction of; None where that is the items."""
        return None

    def measure_all(
        self, preds: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Iterable[Sequence[float]] | Statistics:
        """Return the rows of some items, none of which may depend on the others."""
        return [self.measure(pred, refs) for pred, refs in zip(preds, references, strict=True)]

    @abstractmethod
    def score(self, stats: Statistics) -> dict[str, Statistics]:
        """Turn summed rows into scores.

        Args:
            stats: [..., columns]: the sum over some items, one such sum per resample, or an item's own row.

        Returns:
            for each of `keys`, an array of the leading shape.
        """

    def score_rows(self, stats: Statistics) -> dict[str, Statistics]:
        """Return the scores of some items together from their rows [items, columns], at least one."""
        return self.score(stats.sum(axis=0))  # not torch's sum, the last bits of which depend on its threads

    def update(self, preds: Sequence[str], references: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
        """Add items.

        Args:
            preds: what the model wrote.
            references: for each item all acceptable answers, at least one.
            ids: what tells the items apart; an item that comes again counts once.

        Raises:
            ValueError: for unequal lengths, a text where a list of texts is due, what is not a text where one is due,
                an item without references, or two ids that hash alike.
        """
        check_items(preds, references, ids)
        self.add(ids, self.measure_all(preds, references))

    def add(self, ids: Sequence[str], rows: Iterable[Sequence[float]] | Statistics) -> None:
        """Append measured rows."""
        numbers = item_numbers(ids)
        named = dict(zip(numbers.tolist(), ids, strict=True))
        if len(named) < len(ids) or not self._names.keys().isdisjoint(named):
            for number, id in zip(numbers.tolist(), ids, strict=True):
                if self._names.setdefault(number, id) != id:
                    raise ValueError(f"the ids {self._names[number]!r} and {id!r} have the same hash: rename one")
        self._names.update(named)
        if not isinstance(rows, np.ndarray):
            # One stream of numbers is read several times as fast as a list of lists.
            rows = np.fromiter(chain.from_iterable(rows), dtype=np.float64)
        table = rows.reshape(len(ids), len(self.columns))
        stats = torch.from_numpy(table).to(self.device)
        assert isinstance(self.ids, list)
        assert isinstance(self.stats, list)
        self.ids.append(torch.from_numpy(numbers).to(self.device))
        self.stats.append(stats)

    def items(self) -> Items:
        """Return every item's row, those of other ranks included, each item once.

        Raises:
            ValueError: if an item was seen with two different rows.
        """
        with self.sync_context(self.dist_sync_fn, should_sync=self._to_sync, should_unsync=self._should_unsync):
            return self._unique()

    def compute(self) -> dict[str, Tensor]:
        """Return the scores over all items as float64 scalars, nan where there is no item."""
        stats = self._unique().stats.cpu().numpy()
        if len(stats) == 0:
            warnings.warn(f"{self.signature}: there are no items, so the scores are nan", stacklevel=2)
            return {key: torch.tensor(torch.nan, dtype=torch.float64) for key in self.keys}
        scores = self.score_rows(stats)
        return {key: torch.tensor(float(scores[key]), dtype=torch.float64) for key in self.keys}

    def _unique(self) -> Items:
        """Return the items that are held, in order of id, each once."""
        ids, stats = joined(self.ids, (0,), torch.int64), joined(self.stats, (0, len(self.columns)), torch.float64)
        order = torch.argsort(ids, stable=True)
        ids, stats = ids[order], stats[order]
        again = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
        again[1:] = ids[1:] == ids[:-1]
        conflicts = again.clone()
        conflicts[1:] &= (stats[1:] != stats[:-1]).any(dim=1)
        if conflicts.any():
            number = int(ids[conflicts][0])
            raise ValueError(
                f"item {self._names.get(number, number)!r} was measured twice with different results; "
                f"{int(conflicts.sum())} such repetitions in all"
            )
        return Items(ids[~again], stats[~again])

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Take in the items of another metric of the same signature."""
        if isinstance(incoming_state, ItemMetric):
            if incoming_state.signature != self.signature:
                raise ValueError(f"cannot merge {incoming_state.signature} into {self.signature}")
            for number, id in incoming_state._names.items():
                if self._names.setdefault(number, id) != id:
                    raise ValueError(f"the ids {self._names[number]!r} and {id!r} have the same hash: rename one")
        super().merge_state(incoming_state)
        # torchmetrics would go on returning the scores from before, and warn that there was no update
        self._computed, self._update_count = None, max(self._update_count, 1)

    def get_extra_state(self) -> dict[str, Any]:
        """Return what a state dict holds beside the rows."""
        return {"signature": self.signature, "updates": self._update_count}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over a state dict, the rows of which are already in place; refuse that of another metric."""
        signature = state["signature"]
        if signature != self.signature:
            self.reset()
            raise ValueError(f"the state of {signature} does not fit {self.signature}")
        self._update_count, self._computed = state["updates"], None
        self.ids, self.stats = list(self.ids), list(self.stats)  # not the lists of the state dict itself

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # For a rank without items torchmetrics would send a float32 vector, which gloo answers by aborting the process.
        self.ids = [joined(self.ids, (0,), torch.int64).to(self.device)]
        self.stats = [joined(self.stats, (0, len(self.columns)), torch.float64).to(self.device)]
        super()._sync_dist(*args, **kwargs)


class ChoiceMetric(ItemMetric):
    """A metric whose items may bring the answers that are allowed."""

    higher_is_better = True

    def update(
        self,
        preds: Sequence[str],
        references: Sequence[Sequence[str]],
        ids: Sequence[str],
        choices: Sequence[Sequence[str] | None] | None = None,
    ) -> None:
        """Add items.

        Args:
            preds: what the model wrote.
            references: the right answers of each item.
            ids: what tells the items apart.
            choices: the allowed answers of each item; where None, those of the metric.

        Raises:
            ValueError: beside the reasons of every metric, if an item has no choices at all, or none of its references
                is among them.
        """
        check_items(preds, references, ids)
        choices = per_item("choices", choices, ids)
        rows = []
        for id, pred, refs, allowed in zip(ids, preds, references, choices, strict=True):
            try:
                if allowed is not None and not is_texts(allowed):
                    raise ValueError(f"choices must be a list of texts, got {allowed!r:.100}")
                rows.append(self.judge(pred, refs, allowed))
            except ValueError as error:
                raise ValueError(f"item {id!r}: {error}") from None
        self.add(ids, rows)

    def measure(self, prediction: str, references: Sequence[str]) -> Sequence[float]:
        """Judge one item by the metric's own choices."""
        return self.judge(prediction, references, None)

    @abstractmethod
    def judge(self, prediction: str, references: Sequence[str], choices: Sequence[str] | None) -> Sequence[float]:
        """Return the row of one item, which may bring its choices."""


def joined(state: list[Tensor] | Tensor, empty: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a state as one tensor, of the shape `empty` where nothing was added."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(empty, dtype=dtype)


def check_items(preds: Sequence[str], references: Sequence[Sequence[str]], ids: Sequence[str]) -> None:
    """Raise ValueError for items that do not belong together."""
    for name, values in (("preds", preds), ("references", references), ("ids", ids)):
        if isinstance(values, str):
            raise ValueError(f"{name} must be a list, one entry per item, got the text {values!r}")
    if not len(preds) == len(references) == len(ids):
        raise ValueError(f"got {len(preds)} predictions, {len(references)} reference lists and {len(ids)} ids")
    # All at once first: to look at each item, and each text, would take as long as some metrics do.
    whole = str not in set(map(type, references)) and all(references)
    if whole and set(map(type, chain(preds, chain.from_iterable(references)))) <= {str}:
        return
    for id, refs in zip(ids, references, strict=True):
        if isinstance(refs, str):
            raise ValueError(f"item {id!r}: references must be a list of texts, got the text {refs!r}")
        if not refs:
            raise ValueError(f"item {id!r} has no references")
    for id, pred, refs in zip(ids, preds, references, strict=True):
        for text in (pred, *refs):
            if not isinstance(text, str):
                raise ValueError(f"item {id!r}: predictions and references must be texts, got {text!r}")


def is_texts(value: object) -> bool:
    """Whether a value, such as one from a manifest's meta, is a list of texts."""
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


def per_item(name: str, values: Sequence[Value] | None, ids: Sequence[str]) -> Sequence[Value | None]:
    """Return a value for each item, None for all where none are given; refuse another number of them."""
    if values is None:
        return [None] * len(ids)
    if isinstance(values, str) or len(values) != len(ids):
        raise ValueError(f"{name} must be a list with an entry for each of the {len(ids)} items, got {values!r}")
    return values

"""Which examples an epoch holds, and in which batches: all of it arithmetic on (seed, epoch), none of it state."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch.utils.data import Sampler

from salmonn_lab.batch import Example
from salmonn_lab.data.manifest import Manifest

FRAMES_PER_SECOND = 50
BYTES_PER_TOKEN = 4
PROMPT_TOKENS = 40
"""What a prompt and its template come to, more or less."""
POOL_BATCHES = 50
"""Examples of similar length are looked for among so many batches' worth."""

Indices = NDArray[np.int64]


class Mixture(Sequence[Example]):
    """Several manifests, or some tasks of them, as one sequence: the first source's examples, then the second's."""

    def __init__(self, manifests: Sequence[Manifest], tasks: Sequence[Sequence[str] | None]) -> None:
        """Join manifests; of each, `tasks` names those to keep (None keeps all)."""
        self.manifests = list(manifests)
        self.rows = [_rows_of(manifest, kept) for manifest, kept in zip(manifests, tasks, strict=True)]
        self.sizes = [len(rows) for rows in self.rows]
        self.starts = np.cumsum([0, *self.sizes])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} examples, there is no number {index}")
        source = self.source_of(index)
        return self.manifests[source][int(self.rows[source][index - self.starts[source]])]

    def source_of(self, index: int) -> int:
        """Return which source an example is of."""
        return int(np.searchsorted(self.starts, index, side="right")) - 1

    def seconds(self) -> NDArray[np.float64]:
        """Return the duration of each example, nan where the manifest has none."""
        return self._column(lambda manifest: manifest.column("duration").to_numpy())

    def text_tokens(self, max_target_tokens: int) -> Indices:
        """Return about how many text tokens each example comes to, from the bytes of its text."""
        target = self._column(lambda manifest: _bytes(manifest, "target")) / BYTES_PER_TOKEN
        question = self._column(lambda manifest: _bytes(manifest, "question")) / BYTES_PER_TOKEN
        return np.ceil(np.minimum(target, max_target_tokens) + question + PROMPT_TOKENS).astype(np.int64)

    def first_without_target(self) -> Example | None:
        """Return the first example whose target is empty, if any."""
        empty = np.flatnonzero(self._column(lambda manifest: _bytes(manifest, "target")) == 0)
        return self[int(empty[0])] if len(empty) else None

    def tasks(self) -> list[str]:
        """Return the tasks that occur."""
        pairs = zip(self.manifests, self.rows, strict=True)
        found = [manifest.column("task").take(pa.array(rows)).unique().to_pylist() for manifest, rows in pairs]
        return sorted({task for tasks in found for task in tasks})

    def _column(self, read: Callable[[Manifest], NDArray[np.float64]]) -> NDArray[np.float64]:
        pairs = zip(self.manifests, self.rows, strict=True)
        return np.concatenate([read(manifest)[rows] for manifest, rows in pairs]).astype(np.float64)


def _rows_of(manifest: Manifest, tasks: Sequence[str] | None) -> Indices:
    if tasks is None:
        return np.arange(len(manifest))
    column = manifest.column("task")
    rows = np.flatnonzero(pc.is_in(column, pa.array(list(tasks), pa.string())).to_numpy(zero_copy_only=False))
    missing = sorted(set(tasks) - set(column.unique().to_pylist()))
    if missing:
        raise ValueError(f"{manifest.path}: no example has the task '{missing[0]}'")
    return rows


def _bytes(manifest: Manifest, name: str) -> NDArray[np.float64]:
    lengths: NDArray[np.int32] = pc.binary_length(manifest.column(name)).to_numpy()
    return lengths.astype(np.float64)


@dataclass(frozen=True, eq=False)
class Plan:
    """All that the order of batches depends on."""

    frames: Indices
    """What the encoder frames of each example cost, in text tokens."""
    tokens: Indices
    """Text tokens of each example."""
    sizes: Sequence[int]
    """Examples of each source, which lie one after another."""
    weights: Sequence[float]
    """Share of each source among the examples drawn, relative to the others'."""
    epoch_size: int
    budget: int
    """Of a batch: examples times the longest's frames plus tokens."""
    max_batch_size: int | None = None
    world_size: int = 1
    accumulate: int = 1
    """Batches of each rank whose gradients an optimizer step adds up."""
    seed: int = 0
    shuffle: bool = True
    """False, for evaluation: every example, the longest first, and repeats where training would drop."""

    @cached_property
    def fingerprint(self) -> str:
        """A hash that changes with the order of batches."""
        digest = hashlib.sha256(self.frames.tobytes() + self.tokens.tobytes())
        settings = (list(self.sizes), list(self.weights), self.epoch_size, self.budget, self.max_batch_size)
        digest.update(repr((*settings, self.world_size, self.accumulate, self.seed, self.shuffle)).encode())
        return digest.hexdigest()[:16]


def draw_examples(sizes: Sequence[int], weights: Sequence[float], epoch_size: int, seed: int, epoch: int) -> Indices:
    """Return the examples of an epoch: `round(share * epoch_size)` of each source, at least one if it has a weight.

    A source is drawn from without replacement: it is gone through in passes, each a new permutation, and an epoch
    goes on where the last one stopped.
    """
    drawn: list[Indices] = []
    starts = np.cumsum([0, *sizes])
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        if weight == 0 or size == 0:
            continue
        count = max(1, round(weight / math.fsum(weights) * epoch_size))
        first = epoch * count
        for turn in range(first // size, (first + count - 1) // size + 1):
            order = np.random.default_rng((seed, source, turn)).permutation(size)
            drawn.append(starts[source] + order[max(0, first - turn * size) : first + count - turn * size])
    return np.concatenate(drawn)


def plan_epoch(plan: Plan, epoch: int, steps: int | None = None) -> list[list[int]]:
    """Return the batches of an epoch, a pure function of its arguments; rank r takes every world_size-th from the r-th.

    Examples of similar length share a batch: the shuffled epoch is sorted within pools of about 50 batches, cut
    into batches within the budget (an example dearer than the budget is a batch by itself), and groups of neighbours
    shuffled. A group is what an optimizer step adds up, world_size times accumulate: the ranks have batches of similar
    length and do not wait for one another, and one process that accumulates two takes the steps that two would.

    Every rank gets the same number of batches, `steps`, at least one. By default training drops what is left over from
    whole groups (or, if there is no whole one, from whole rows of one batch a rank), and evaluation fills the last row
    with the first batches again. Given `steps`, surplus batches are dropped and missing ones made by halving the
    largest.
    """
    rng = np.random.default_rng((plan.seed, epoch))
    if plan.shuffle:
        indices = draw_examples(plan.sizes, plan.weights, plan.epoch_size, plan.seed, epoch)
        indices = indices[rng.permutation(len(indices))]
    else:
        indices = np.arange(sum(plan.sizes))
    batches = _pack(plan, indices)
    ranks = plan.world_size
    if plan.shuffle:
        if steps is not None:
            batches = _halve(batches, steps * ranks)
        size = ranks * plan.accumulate
        groups = len(batches) // size
        order = [group * size + place for group in rng.permutation(groups) for place in range(size)]
        batches = [batches[i] for i in order] + batches[len(order) :]
        steps = steps or groups * plan.accumulate or max(1, len(batches) // ranks)
    elif steps is None:
        steps = math.ceil(len(batches) / ranks)
    return [batches[i % len(batches)] for i in range(steps * ranks)]


def _pack(plan: Plan, indices: Indices) -> list[list[int]]:
    """Cut indices into batches within the budget, examples of similar length together."""
    frames, tokens = plan.frames[indices], plan.tokens[indices]
    cost = frames + tokens
    most = plan.max_batch_size or len(indices)
    pool = len(indices)
    if plan.shuffle:
        pool = max(1, int(POOL_BATCHES * min(most, max(1.0, plan.budget / cost.mean()))))
    order = np.lexsort((-tokens, -cost, np.arange(len(indices)) // pool))
    pools = (order // pool).tolist()
    batches: list[list[int]] = []
    longest = widest = 0
    last_pool = -1
    for index, frame, token, place in zip(
        indices[order].tolist(), frames[order].tolist(), tokens[order].tolist(), pools, strict=True
    ):
        longest, widest = max(longest, frame), max(widest, token)
        full = (
            place != last_pool or len(batches[-1]) >= most or (len(batches[-1]) + 1) * (longest + widest) > plan.budget
        )
        if full:
            batches.append([])
            longest, widest, last_pool = frame, token, place
        batches[-1].append(index)
    return batches


def _halve(batches: list[list[int]], wanted: int) -> list[list[int]]:
    """Split the largest batches in two until there are `wanted`, or each holds one example; the order stays."""
    while len(batches) < wanted and any(len(batch) > 1 for batch in batches):
        largest = sorted(range(len(batches)), key=lambda i: -len(batches[i]))[: wanted - len(batches)]
        split = {i for i in largest if len(batches[i]) > 1}
        batches = [
            half
            for i, batch in enumerate(batches)
            for half in ([batch[: len(batch) // 2], batch[len(batch) // 2 :]] if i in split else [batch])
        ]
    return batches


@dataclass(frozen=True)
class WarmUp:
    """Batches that come before those of the main plan, from a plan of their own."""

    plan: Plan
    batches: int
    """How many each rank trains on."""


class ResumableBatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields this rank's batches of (epoch, index) from wherever the trainer is, epoch after epoch.

    The place is `consumed()`, a rank's batches since the start of training: the epoch is its quotient by the number
    of steps, the step its remainder. So there is nothing to restore but that number; and Lightning's notion of an
    epoch (which `limit_train_batches` and `max_steps` cut short, and whose `set_epoch` never reaches a batch sampler)
    does not enter. For the quotient to mean anything, every epoch has as many steps as the first. A warm-up has epochs
    of its own, and the main plan starts at its first when the warm-up's batches are over.
    """

    def __init__(
        self, plan: Plan, rank: int = 0, consumed: Callable[[], int] = int, warm_up: WarmUp | None = None
    ) -> None:
        """Take this rank's part of a plan; `consumed` is asked whenever an iteration starts (default: always 0)."""
        self.rank = rank
        self.consumed = consumed
        self.warm_up = warm_up.batches if warm_up else 0
        self._epochs = PlannedEpochs(plan, rank)
        self._warm_up = PlannedEpochs(warm_up.plan, rank) if warm_up else None
        self.steps = self._epochs.steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        start = self.consumed()
        for position in range(start, start + self.steps):
            if self._warm_up is not None and position < self.warm_up:
                yield self._warm_up.batch(position)
            else:
                yield self._epochs.batch(position - self.warm_up)


class PlannedEpochs:
    """A rank's batches of a plan by their number, over all epochs; the batches of one epoch are in memory."""

    def __init__(self, plan: Plan, rank: int) -> None:
        self.plan = plan
        self.rank = rank
        self._epoch = 0
        self._batches = self._of_rank(plan_epoch(plan, 0))
        self.steps = len(self._batches)
        """Batches in every epoch."""

    def batch(self, position: int) -> list[tuple[int, int]]:
        """Return the addresses of the batch at a position that counts from the first batch of the first epoch."""
        epoch, step = divmod(position, self.steps)
        if epoch != self._epoch:
            self._batches = self._of_rank(plan_epoch(self.plan, epoch, self.steps))
            self._epoch = epoch
        return [(epoch, index) for index in self._batches[step]]

    def _of_rank(self, batches: list[list[int]]) -> list[list[int]]:
        return batches[self.rank :: self.plan.world_size]

"""An item counts once and alike, whatever order, batch, rank or file it comes through."""

from __future__ import annotations

import copy
import math
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from every_metric import COUNT, IDS, METRICS, PREDS, REFERENCES, add, encoder, fresh

from salmonn_lab.metrics import item as item_module
from salmonn_lab.metrics.answer import ExactMatch
from salmonn_lab.metrics.item import ItemMetric, item_number, item_numbers
from salmonn_lab.metrics.wer import ErrorRate

PARTS = {
    1: [range(COUNT)],
    2: [range(16), range(16, COUNT)],
    3: [range(0, 20), range(0), range(17, COUNT)],  # uneven, one empty, three items on two ranks
}


def values(metric: ItemMetric) -> dict[str, float]:
    scores = metric.compute()
    assert all(score.dtype == torch.float64 and score.ndim == 0 for score in scores.values())
    assert tuple(scores) == metric.keys
    return {key: score.item() for key, score in scores.items()}


@cache
def whole(kind: str) -> dict[str, float]:
    metric = fresh(kind)
    add(metric, range(COUNT))
    return values(metric)


@pytest.mark.parametrize("kind", METRICS)
def test_order_and_batch_split_do_not_change_a_bit(kind: str) -> None:
    generator = torch.Generator().manual_seed(len(kind))
    for size in (1, 4, COUNT):
        metric = fresh(kind)
        for batch in torch.randperm(COUNT, generator=generator).split(size):
            add(metric, batch.tolist())
        assert values(metric) == whole(kind)


@pytest.mark.parametrize("kind", METRICS)
def test_summed_rows_of_any_leading_shape_give_the_scores_of_each(kind: str) -> None:
    metric = fresh(kind)
    add(metric, range(COUNT))
    stats = metric.items().stats.numpy()
    if not metric.summable:
        assert {key: float(value) for key, value in metric.score_rows(stats).items()} == values(metric)
        with pytest.raises(ValueError, match="not of their sum"):
            metric.score(stats.sum(axis=0))
        return
    total = metric.score(stats.sum(axis=0))
    assert {key: float(value) for key, value in total.items()} == values(metric)
    stacked = metric.score(stats[:20].reshape(2, 2, 5, -1).sum(axis=2))
    for key in metric.keys:
        assert stacked[key].shape == (2, 2)
        assert np.array_equal(stacked[key][1, 0], metric.score(stats[10:15].sum(axis=0))[key], equal_nan=True)


def test_items_come_in_the_order_of_their_numbers() -> None:
    metric = fresh("wer")
    add(metric, reversed(range(COUNT)))
    numbers, stats = metric.items()
    assert numbers.tolist() == sorted(map(item_number, IDS))
    assert stats.shape == (COUNT, len(metric.columns))
    assert (numbers.dtype, stats.dtype) == (torch.int64, torch.float64)


def test_an_item_number_is_63_bits_of_blake2b_and_never_changes() -> None:
    assert item_number("") == 0xE4A6A0577479B2B4 >> 1
    assert all(0 <= item_number(id) < 2**63 for id in [*IDS, "\ud800"])
    assert len(set(map(item_number, IDS))) == COUNT
    assert item_numbers([*IDS, "\ud800"]).tolist() == [*map(item_number, IDS), item_number("\ud800")]


@pytest.mark.parametrize("kind", METRICS)
def test_repeated_items_count_once(kind: str) -> None:
    metric = fresh(kind)
    add(metric, [*range(COUNT), 0, 5, 5])
    add(metric, [3])
    assert values(metric) == whole(kind)
    assert len(metric.items().ids) == COUNT


def test_an_item_with_two_results_is_an_error_that_names_it() -> None:
    metric = ExactMatch()
    metric.update(["a", "b"], [["a"], ["b"]], ["first", "second"])
    metric.update(["c"], [["b"]], ["second"])
    for ask in (metric.compute, metric.items):
        with pytest.raises(ValueError, match="item 'second' was measured twice"):
            ask()


def test_two_ids_with_one_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_module, "item_numbers", lambda ids: np.full(len(ids), 7, dtype=np.int64))
    metric = ExactMatch()
    metric.update(["a"], [["a"]], ["first"])
    metric.update(["a"], [["a"]], ["first"])
    with pytest.raises(ValueError, match="'first' and 'second' have the same hash"):
        metric.update(["a"], [["a"]], ["second"])
    other = ExactMatch()
    other.update(["a"], [["a"]], ["third"])
    with pytest.raises(ValueError, match="'first' and 'third' have the same hash"):
        metric.merge_state(other)


def test_a_refused_update_leaves_nothing_behind() -> None:
    metric = ExactMatch()
    metric.update(["a"], [["a"]], ["first"])
    with pytest.raises(ValueError, match="has no references"):
        metric.update(["b", "b"], [["x"], []], ["second", "third"])
    assert len(metric.items().ids) == 1


@pytest.mark.parametrize(
    ("preds", "references", "ids", "message"),
    [
        (["a"], [["a"], ["b"]], ["1", "2"], "got 1 predictions, 2 reference lists and 2 ids"),
        (["a", "b"], [["a"]], ["1", "2"], "2 predictions, 1 reference lists"),
        (["a"], [["a"]], ["1", "2"], "1 reference lists and 2 ids"),
        ("a", [["a"]], ["1"], "preds must be a list"),
        (["a"], "a", ["1"], "references must be a list"),
        (["a"], ["abc"], ["1"], "item '1': references must be a list of texts"),
        (["a"], [["a"]], "1", "ids must be a list"),
        (["a"], [[]], ["1"], "item '1' has no references"),
        ([None], [["a"]], ["1"], "item '1': predictions and references must be texts, got None"),
        (["a"], [["a", 3]], ["1"], "item '1': predictions and references must be texts, got 3"),
    ],
)
@pytest.mark.parametrize("kind", METRICS)
def test_items_that_do_not_belong_together_are_refused(
    kind: str, preds: list[object], references: list[list[object]], ids: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fresh(kind).update(preds, references, ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", METRICS)
def test_no_items_give_nan_and_a_warning(kind: str) -> None:
    untouched, emptily_updated = fresh(kind), fresh(kind)
    emptily_updated.update([], [], [])
    for metric in (untouched, emptily_updated):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert all(map(math.isnan, values(metric).values()))
        assert any("there are no items" in str(warning.message) for warning in caught)
        assert metric.items().stats.shape == (0, len(metric.columns))


@pytest.mark.parametrize("kind", METRICS)
def test_merged_metrics_score_as_one(kind: str) -> None:
    one, other = fresh(kind), fresh(kind)
    add(one, range(9))
    assert values(one) is not None  # a score from before the merge must not come back
    add(other, range(7, COUNT))
    one.merge_state(other)
    assert values(one) == whole(kind)
    empty = fresh(kind)
    empty.merge_state(one)
    one.merge_state(fresh(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(empty) == values(one) == whole(kind)


def test_metrics_of_other_signatures_do_not_merge() -> None:
    with pytest.raises(ValueError, match=r"cannot merge wer\|norm:exact"):
        ErrorRate().merge_state(ErrorRate(normalizer="exact"))


@pytest.mark.parametrize("kind", METRICS)
def test_a_saved_metric_goes_on_where_it_was(kind: str, tmp_path: Path) -> None:
    metric = fresh(kind)
    for batch in (range(5), range(5, 12)):
        add(metric, batch)
    torch.save(metric.state_dict(), tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    for loaded in (fresh(kind), fresh(kind)):  # two of one state must not share its lists
        loaded.load_state_dict(state)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert values(loaded) == values(metric)
        add(loaded, range(12, COUNT))
        assert values(loaded) == whole(kind)


def test_loading_forgets_the_scores_from_before() -> None:
    metric, empty = ExactMatch(), ExactMatch()
    metric.update(["a"], [["a"]], ["1"])
    state = metric.state_dict()
    empty.update(["b"], [["a"]], ["1"])
    assert values(empty) == {"exact_match": 0}
    empty.load_state_dict(state)
    assert values(empty) == {"exact_match": 1}


def test_the_state_of_another_metric_is_refused() -> None:
    state = ErrorRate(normalizer="exact").state_dict()
    with pytest.raises(ValueError, match=r"the state of wer\|norm:exact@1\|agg:corpus\|v1 does not fit"):
        ErrorRate().load_state_dict(state)


def test_reset_copy_and_forward_keep_items_apart() -> None:
    metric = fresh("wer")
    add(metric, range(9))
    twin = copy.deepcopy(metric)
    metric.reset()
    add(twin, range(9, COUNT))
    assert values(twin) == whole("wer")
    batch = metric([PREDS[0]], [REFERENCES[0]], [IDS[0]])
    assert batch["wer"].item() == pytest.approx(values(metric)["wer"])
    add(metric, range(COUNT))
    assert values(metric) == whole("wer")


def work(rank: int, size: int, folder: str) -> None:
    """Measure this rank's items with every metric, then let all ranks be empty, then let two contradict one another."""
    rendezvous = f"file://{folder}/meet-{size}"
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=size)
    results: dict[object, object] = {}
    for kind in METRICS:
        metric = fresh(kind)
        if len(PARTS[size][rank]):
            add(metric, PARTS[size][rank])
        results[kind] = values(metric)
        numbers, stats = metric.items()
        results["items", kind] = (numbers.tolist(), stats.tolist())
        add(metric, PARTS[size][rank] or [0])  # still usable after it was gathered
        results["again", kind] = values(metric)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results["none"] = math.isnan(values(ErrorRate())["wer"])
        results["warned"] = any("there are no items" in str(warning.message) for warning in caught)
    conflict = ExactMatch()
    conflict.update(["a" if rank == 0 else "b"], [["a"]], ["same"])
    try:
        results["conflict"] = values(conflict)
    except ValueError as error:
        results["conflict"] = str(error)
    torch.save(results, f"{folder}/answers-{size}-{rank}")
    torch.distributed.destroy_process_group()


def work_in_twos_and_threes(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    encoder()  # within a group transformers lets the first rank alone save
    for size in (2, 3):
        if rank < size:
            work(rank, size, folder)


@pytest.mark.slow
def test_every_rank_gets_the_scores_of_all_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.multiprocessing.spawn(work_in_twos_and_threes, (str(tmp_path),), nprocs=3)
    work(0, 1, str(tmp_path))
    for size, rank in [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]:
        results = torch.load(tmp_path / f"answers-{size}-{rank}", weights_only=False)
        for kind in METRICS:
            metric = fresh(kind)
            add(metric, range(COUNT))
            numbers, stats = metric.items()
            assert results[kind] == results["again", kind] == values(metric)
            assert results["items", kind] == (numbers.tolist(), stats.tolist())
        assert results["none"] is True
        assert results["warned"] is True
        if size > 1:
            assert "item 'same' was measured twice" in results["conflict"]

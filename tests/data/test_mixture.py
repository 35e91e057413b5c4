"""The plan of an epoch: a pure function that keeps the budget, shares fairly between ranks and honours the weights."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salmonn_lab.batch import Example, Segment
from salmonn_lab.data.manifest import Manifest, read_manifest, write_manifest
from salmonn_lab.data.mixture import Mixture, Plan, ResumableBatchSampler, WarmUp, draw_examples, plan_epoch


def make_plan(frames: list[int], tokens: list[int], **options: object) -> Plan:
    settings = {"sizes": [len(frames)], "weights": [1.0], "epoch_size": len(frames), "budget": 1000, **options}
    return Plan(np.array(frames), np.array(tokens), **settings)  # type: ignore[arg-type]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 80))

    def numbers(most: int) -> list[int]:
        return draw(st.lists(st.integers(1, most), min_size=count, max_size=count))

    return make_plan(
        numbers(1500),
        numbers(300),
        budget=draw(st.integers(1, 8000)),
        max_batch_size=draw(st.none() | st.integers(1, 9)),
        world_size=draw(st.integers(1, 5)),
        accumulate=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 5)),
        shuffle=draw(st.booleans()),
    )


def cost(plan: Plan, batch: list[int]) -> int:
    return len(batch) * int(plan.frames[batch].max() + plan.tokens[batch].max())


@settings(max_examples=150, deadline=None)
@given(plan=plans(), epoch=st.integers(0, 3), given_steps=st.none() | st.integers(1, 40))
def test_every_plan_is_pure_fair_and_within_its_budget(plan: Plan, epoch: int, given_steps: int | None) -> None:
    batches = plan_epoch(plan, epoch, given_steps)
    assert batches == plan_epoch(dataclasses.replace(plan), epoch, given_steps)
    assert len(batches) % plan.world_size == 0
    assert len(batches) >= plan.world_size
    if given_steps is not None:
        assert len(batches) == given_steps * plan.world_size
    for batch in batches:
        assert len(batch) == 1 or cost(plan, batch) <= plan.budget
        assert 1 <= len(batch) <= (plan.max_batch_size or len(plan.frames))
    whole = plan_epoch(dataclasses.replace(plan, world_size=1, accumulate=1), epoch)
    assert sorted(index for batch in whole for index in batch) == list(range(len(plan.frames)))
    if plan.shuffle and given_steps is None and len(whole) >= plan.world_size:
        used = [index for batch in batches for index in batch]
        assert len(set(used)) == len(used), "no example twice"
        assert len(whole) - len(batches) < plan.world_size * plan.accumulate, "less than one group is dropped"
        one = plan_epoch(dataclasses.replace(plan, world_size=1, accumulate=plan.world_size * plan.accumulate), epoch)
        if len(whole) >= plan.world_size * plan.accumulate:
            assert one == batches, "a step adds up the same batches on however many devices"
    if plan.shuffle and given_steps is not None and len(batches) <= len(plan.frames):
        used = [index for batch in batches for index in batch]
        assert len(set(used)) == len(used), "missing batches are made by halving, not by repeating"
        assert len(batches) < len(whole) or len(used) == len(plan.frames), "and nothing is lost by it"
    if not plan.shuffle and given_steps is None:
        assert {index for batch in batches for index in batch} == set(range(len(plan.frames))), "evaluation drops none"


@settings(max_examples=50, deadline=None)
@given(plan=plans(), start=st.integers(0, 50))
def test_a_sampler_started_anywhere_yields_what_the_straight_one_yields_from_there(plan: Plan, start: int) -> None:
    place = [0]
    sampler = ResumableBatchSampler(plan, plan.world_size - 1, lambda: place[0])
    straight = []
    while len(straight) < start + len(sampler):
        place[0] = len(straight)
        straight += list(sampler)
    place[0] = start
    fresh = ResumableBatchSampler(plan, plan.world_size - 1, lambda: start)
    assert list(fresh) == list(sampler) == straight[start : start + len(sampler)]


@settings(max_examples=50, deadline=None)
@given(plan=plans(), first=plans(), batches=st.integers(0, 30), start=st.integers(0, 50))
def test_a_warm_up_comes_first_and_the_plan_then_starts_at_its_first_batch(
    plan: Plan, first: Plan, batches: int, start: int
) -> None:
    sampler = ResumableBatchSampler(plan, 0, lambda: start, WarmUp(first, batches))
    plain = ResumableBatchSampler(plan, 0, lambda: max(0, start - batches))
    warm = ResumableBatchSampler(first, 0, lambda: start)
    assert len(sampler) == len(plain)
    yielded, left = list(sampler), max(0, batches - start)
    assert yielded[left:] == list(plain)[: max(0, len(yielded) - left)]
    count = min(left, len(yielded), len(warm))
    assert yielded[:count] == list(warm)[:count]


@settings(max_examples=50, deadline=None)
@given(plan=plans())
def test_ranks_together_cover_the_plan_of_every_epoch(plan: Plan) -> None:
    samplers = [ResumableBatchSampler(plan, rank) for rank in range(plan.world_size)]
    steps = {len(sampler) for sampler in samplers}
    assert len(steps) == 1
    rows = zip(*samplers, strict=True)
    assert [[index for _, index in batch] for row in rows for batch in row] == plan_epoch(plan, 0)


def test_ranks_of_a_step_have_batches_of_similar_length() -> None:
    generator = np.random.default_rng(0)
    frames = generator.integers(50, 1500, 5000).tolist()
    plan = make_plan(frames, [40] * 5000, budget=100_000, max_batch_size=3, world_size=2)
    costs = np.array([cost(plan, batch) for batch in plan_epoch(plan, 0)]).reshape(-1, 2)
    waited = costs.max(axis=1).sum() / costs.mean(axis=1).sum() - 1
    assert waited < 0.02
    apart = generator.permutation(costs.ravel()).reshape(-1, 2)
    assert apart.max(axis=1).sum() / costs.mean(axis=1).sum() - 1 > 0.2, "ranks would wait for one another"


def test_seed_epoch_and_nothing_else_change_the_order() -> None:
    generator = np.random.default_rng(0)
    plan = make_plan(generator.integers(50, 1500, 200).tolist(), generator.integers(1, 99, 200).tolist(), budget=6000)
    orders = [plan_epoch(dataclasses.replace(plan, seed=seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(one != other for number, one in enumerate(orders) for other in orders[:number])
    hashes = {dataclasses.replace(plan, **change).fingerprint for change in (
        {}, {"seed": 1}, {"budget": 6001}, {"world_size": 2}, {"accumulate": 2}, {"epoch_size": 9},
        {"max_batch_size": 3}, {"frames": plan.frames + 1}, {"weights": [2.0]},
    )}  # fmt: skip
    assert len(hashes) == 9
    assert dataclasses.replace(plan).fingerprint == plan.fingerprint


def test_batches_hold_examples_of_similar_length_yet_come_in_any_order() -> None:
    generator = np.random.default_rng(0)
    frames = generator.integers(50, 1500, 5000)
    plan = make_plan(frames.tolist(), [40] * 5000, budget=16_000)
    batches = plan_epoch(plan, 0)
    used = sum(cost(plan, batch) for batch in batches)
    assert (frames + 40).sum() / used > 0.9, "padding stays below a tenth"
    longest = [int(frames[batch].max()) for batch in batches]
    assert longest != sorted(longest, reverse=True)
    evaluation = plan_epoch(dataclasses.replace(plan, shuffle=False), 0)
    first = [int(frames[batch].max()) for batch in evaluation]
    assert first == sorted(first, reverse=True), "the longest first, so that memory runs out at once or never"


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    weights=st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    epoch_size=st.integers(1, 60),
    seed=st.integers(0, 3),
)
def test_sources_are_drawn_by_weight_and_gone_through_before_anything_repeats(
    sizes: list[int], weights: list[float], epoch_size: int, seed: int
) -> None:
    weights = weights[: len(sizes)]
    starts = np.cumsum([0, *sizes])
    epochs = [draw_examples(sizes, weights, epoch_size, seed, epoch) for epoch in range(4)]
    for source, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
        drawn = [epoch[(epoch >= starts[source]) & (epoch < starts[source + 1])] for epoch in epochs]
        assert {len(part) for part in drawn} == {max(1, round(weight / sum(weights) * epoch_size))}
        stream = np.concatenate(drawn)
        for turn in range(0, len(stream), size):
            one_pass = stream[turn : turn + size]
            assert len(set(one_pass.tolist())) == len(one_pass)
        counts = Counter(stream.tolist()).values()
        assert max(counts) - min(counts) <= 1 or len(counts) < size


def test_a_source_of_weight_zero_is_off_and_sizes_as_weights_give_one_pass() -> None:
    assert set(draw_examples([3, 4], [0.0, 1.0], 8, 0, 0).tolist()) == {3, 4, 5, 6}
    for epoch in range(3):
        assert sorted(draw_examples([3, 40], [3.0, 40.0], 43, 0, epoch).tolist()) == list(range(43))


@pytest.mark.slow
def test_a_million_examples_are_planned_in_seconds() -> None:
    generator = np.random.default_rng(0)
    count = 1_000_000
    plan = Plan(generator.integers(50, 1500, count), generator.integers(40, 99, count), [count], [1.0], count, 16_000)
    start = time.perf_counter()
    batches = plan_epoch(plan, 0)
    assert time.perf_counter() - start < 10
    assert sum(map(len, batches)) == count


@pytest.fixture
def two_manifests(tmp_path: Path) -> list[Manifest]:
    segment = (Segment("/a.wav"),)
    write_manifest(
        tmp_path / "one.jsonl",
        [Example(f"a{n}", segment, ("asr", "QA")[n % 2], "four" * n or "x", duration=n + 1.0) for n in range(6)],
    )
    write_manifest(tmp_path / "two.jsonl", [Example(f"b{n}", segment, "asr", "x", question="é" * 6) for n in range(3)])
    return [read_manifest(tmp_path / name) for name in ("one.jsonl", "two.jsonl")]


def test_a_mixture_is_its_sources_one_after_another(two_manifests: list[Manifest]) -> None:
    mixture = Mixture(two_manifests, [["QA"], None])
    assert [example.id for example in mixture] == ["a1", "a3", "a5", "b0", "b1", "b2"]
    assert mixture.sizes == [3, 3]
    assert mixture.tasks() == ["QA", "asr"]
    np.testing.assert_array_equal(mixture.seconds(), [2, 4, 6, np.nan, np.nan, np.nan])
    assert mixture.text_tokens(300).tolist() == [41, 43, 45, 44, 44, 44]
    assert mixture.text_tokens(2).tolist() == [41, 42, 42, 44, 44, 44]
    with pytest.raises(IndexError):
        mixture[6]
    with pytest.raises(ValueError, match=r"two\.jsonl: no example has the task 'QA'"):
        Mixture(two_manifests, [["QA"], ["QA"]])


def test_epochs_of_different_batch_counts_have_equal_steps() -> None:
    generator = np.random.default_rng(5)
    plan = make_plan(generator.integers(50, 1500, 300).tolist(), [10] * 300, budget=4000)
    counts = [len(plan_epoch(plan, epoch)) for epoch in range(12)]
    assert min(counts) < counts[0] < max(counts), "otherwise this tests nothing"
    place = 0
    sampler = ResumableBatchSampler(plan, consumed=lambda: place)
    for epoch in range(12):
        place = epoch * len(sampler)
        batches = list(sampler)
        assert len(batches) == counts[0]
        assert {found for batch in batches for found, _ in batch} == {epoch}
        used = [index for batch in batches for _, index in batch]
        assert len(set(used)) == len(used)
        assert len(used) == 300 or counts[epoch] > counts[0], "only an epoch of more batches loses a few"

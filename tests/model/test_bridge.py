"""The bridge: token counts, masks, and independence of batch-mates on every axis."""

import pytest
import torch
from torch import nn

from salmonn_lab.batch import Frames
from salmonn_lab.model.bridge import Bridge, BridgeConfig


def frames(counts: list[int], dim: int = 6, seed: int = 0) -> Frames:
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    generator = torch.Generator().manual_seed(seed)
    return Frames(torch.randn(*mask.shape, dim, generator=generator) * mask[..., None], mask)


def bridge(**axes: object) -> Bridge:
    config = BridgeConfig(hidden_dim=8, num_heads=2, num_layers=2, **axes)  # type: ignore[arg-type]
    return Bridge(config, [6], llm_dim=12, embedding_scale=0.1).eval()


def test_published_windows_make_88_tokens_of_17_frames() -> None:
    config = BridgeConfig()
    assert (config.kernel, config.stride) == (17, 17)
    tokens = bridge(span="thirty_seconds")([frames([1500, 60])])
    assert tokens.embeds.shape == (2, 88, 12)
    assert bool(tokens.mask.all())


def test_windows_touch_where_no_stride_is_given() -> None:
    for seconds in (0.333333, 0.5, 1.0, 2.0):
        config = BridgeConfig(window_seconds=seconds)
        assert config.stride == config.kernel
    tokens = bridge(window_seconds=1.0)([frames([1500])])
    assert tokens.embeds.shape[1] == 30
    tokens = bridge(window_seconds=1.0, stride_seconds=0.333333)([frames([1500])])
    assert tokens.embeds.shape[1] == 86
    with pytest.raises(ValueError, match=r"model\.bridge\.stride_seconds must lie between 0\.02 and 30, got 0"):
        BridgeConfig(stride_seconds=0.0)


def test_half_second_windows_round_as_the_original_does() -> None:
    config = BridgeConfig(window_seconds=0.5, stride_seconds=0.25)
    assert (config.kernel, config.stride) == (25, 12)
    tokens = bridge(window_seconds=0.5, stride_seconds=0.25, num_queries=2)([frames([1500])])
    assert tokens.embeds.shape[1] == 246


@pytest.mark.parametrize(("count", "windows"), [(1, 1), (17, 1), (18, 2), (34, 2), (35, 3), (100, 6)])
def test_a_clip_costs_only_the_windows_that_hold_audio(count: int, windows: int) -> None:
    tokens = bridge(span="clip", num_queries=3)([frames([count, 200])])
    assert int(tokens.mask[0].sum()) == 3 * windows


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"num_queries": 3},
        {"level": "sequence", "num_queries": 4},
        {"window_seconds": 0.5, "stride_seconds": 0.25},
        {"window_seconds": 0.2, "stride_seconds": 1.0},
        {"output_scale": "embedding"},
    ],
)
def test_tokens_do_not_depend_on_batch_mates(axes: dict[str, object]) -> None:
    part, counts = bridge(span="clip", **axes), [5, 100, 63]
    together = frames(counts)
    tokens = part([together])
    for index, count in enumerate(counts):
        alone = part([Frames(together.features[index : index + 1, :count], together.mask[index : index + 1, :count])])
        own = tokens.embeds[index][tokens.mask[index]]
        torch.testing.assert_close(own, alone.embeds[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("axes", [{}, {"level": "sequence"}, {"stride_seconds": 0.1}, {"span": "thirty_seconds"}])
def test_frames_projected_once_give_the_tokens_of_a_plain_q_former(axes: dict[str, object]) -> None:
    part = bridge(**{"span": "clip", **axes})
    counts = torch.tensor([40, 25])
    mask = torch.arange(40) < counts[:, None]
    stream = Frames(torch.randn(2, 3, 6).repeat_interleave(16, dim=1)[:, :40] * mask[..., None], mask, repeats=16)
    tokens = part([stream])
    projections = [(attention, name, getattr(attention, name)) for attention, name in part.projections()]
    for attention, name, projection in projections:  # as the library has it: a projection of features
        plain = nn.Linear(projection.in_features, projection.out_features)
        plain.load_state_dict(projection.state_dict())
        setattr(attention, name, plain)
    config = part.config
    if config.span == "thirty_seconds":
        counts = torch.tensor([1500, 1500])
    for row, count in enumerate(counts.tolist()):
        features = (part.norms[0](stream.features) * mask[..., None])[row]
        features = nn.functional.pad(features, (0, 0, 0, 1500 - 40))
        if config.level == "sequence":
            windows, present = features[None, :count], torch.ones(1, count, dtype=torch.bool)
        else:
            size = len(tokens.mask[row][tokens.mask[row]])
            windows = features.unfold(0, config.kernel, config.stride)[:size].transpose(1, 2)
            present = (torch.arange(1500) < count).unfold(0, config.kernel, config.stride)[:size]
        hidden = part.qformer(
            query_embeds=part.queries.expand(len(windows), -1, -1),
            encoder_hidden_states=windows,
            encoder_attention_mask=present.long(),
        ).last_hidden_state
        expected = part.projection(hidden).flatten(0, 1)
        torch.testing.assert_close(tokens.embeds[row][tokens.mask[row]], expected, atol=1e-6, rtol=1e-5)


def test_every_frame_of_a_clip_reaches_its_tokens() -> None:
    part = bridge(span="clip")
    stream = frames([40])
    stream.features.requires_grad_()
    part([stream]).embeds.sum().backward()
    assert bool((stream.features.grad.abs().sum(-1) > 0).all())  # type: ignore[union-attr]


def test_embedding_scale_gives_tokens_the_spread_of_the_embeddings() -> None:
    tokens = bridge(output_scale="embedding", span="clip")([frames([50])]).embeds
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.full(tokens.shape[:2], 0.1), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"num_queries": 0}, r"model\.bridge\.num_queries must be at least 1, got 0"),
        ({"hidden_dim": 10, "num_heads": 3}, "must be a multiple"),
        ({"window_seconds": 0.0}, r"model\.bridge\.window_seconds must lie between"),
    ],
)
def test_impossible_axes_are_refused_by_their_dotted_name(axes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BridgeConfig(**axes)  # type: ignore[arg-type]

"""What the queries attend to: weights over a clip's own frames, and shares of the encoders."""

import pytest
import torch
from torch.nn import functional

from salmonn_lab.batch import Frames
from salmonn_lab.model.attention import attention, caught
from salmonn_lab.model.bridge import Bridge, BridgeConfig

DIMS = [6, 4]


def bridge(**axes: object) -> Bridge:
    torch.manual_seed(0)
    config = BridgeConfig(hidden_dim=8, num_heads=2, num_layers=2, span="clip", **axes)  # type: ignore[arg-type]
    return Bridge(config, DIMS, llm_dim=12, embedding_scale=0.1).eval()


def streams(count: int = 40) -> list[Frames]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(1, count, dtype=torch.bool)
    return [Frames(torch.randn(1, count, dim, generator=generator), mask) for dim in DIMS]


@pytest.mark.parametrize("axes", [{"num_queries": 2}, {"level": "sequence", "num_queries": 5}, {"stride_seconds": 0.2}])
def test_each_token_spreads_its_attention_over_its_own_frames(axes: dict[str, object]) -> None:
    part = bridge(**axes)
    tokens = int(part(streams()).mask.sum())
    found = attention(part, streams())
    assert found.weights.shape == (2, 2, tokens, 40)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(2, 2, tokens))
    assert found.shares.shape == (2, tokens, 2)
    torch.testing.assert_close(found.shares.sum(-1), torch.ones(2, tokens))
    if axes.get("level") != "sequence":
        queries, stride = part.config.num_queries, part.config.stride
        for token in range(tokens):
            start = token // queries * stride
            outside = torch.ones(40, dtype=torch.bool)
            outside[start : start + 17] = False
            assert not found.weights[:, :, token, outside].any()
            assert (found.weights[:, :, token, ~outside] > 0).all()


def test_the_weights_are_those_that_the_tokens_were_made_with() -> None:
    part = bridge(level="sequence", num_queries=3)
    seen: list[torch.Tensor] = []
    cross = part.qformer.encoder.layer[1].crossattention.attention
    handle = cross.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[0]))
    with torch.no_grad():
        part(streams())
        projected, _ = part.project(streams())
    handle.remove()
    weights = attention(part, streams()).weights[1]
    values = projected[0, :, 24:32].unflatten(1, (2, 4)).transpose(0, 1)
    torch.testing.assert_close((weights @ values).transpose(0, 1).flatten(1), seen[0][0])


def test_an_encoder_that_says_nothing_has_no_share() -> None:
    part = bridge(num_queries=1)
    whisper, other = streams()
    silent = Frames(torch.zeros_like(other.features), other.mask)
    assert (attention(part, [whisper, silent]).shares[..., 1] == 0).all()
    assert (attention(part, [whisper, other]).shares[..., 1] > 0.05).all()


def test_looking_changes_nothing_and_takes_one_clip() -> None:
    part = bridge()
    before = part(streams()).embeds
    attention(part, streams())
    assert torch.equal(part(streams()).embeds, before)
    assert part.qformer.config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError, match="stop"), caught(part):
        raise RuntimeError("stop")
    assert part.qformer.config._attn_implementation == "sdpa"
    two = [Frames(functional.pad(s.features, (0, 0, 0, 0, 0, 1)), s.mask.repeat(2, 1)) for s in streams()]
    with pytest.raises(ValueError, match="one clip at a time, got 2"):
        attention(part, two)

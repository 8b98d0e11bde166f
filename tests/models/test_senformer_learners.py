"""SenFormer's learners against the formulas of the paper, and what sharing means."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segsweep.models.heads.learners import Learner, LearnerBlock, LearnerShape, Sharing, make_learners

CHANNELS, HEADS, CLASSES = 16, 4, 5


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return module.double()


def shape(**values: object) -> LearnerShape:
    return LearnerShape(**({"channels": CHANNELS, "num_heads": HEADS, "num_blocks": 3} | values))  # type: ignore[arg-type]


def learner(**values: object) -> Learner:
    (one,) = make_learners(1, num_classes=CLASSES, shape=shape(**values))
    return randomised(one)  # type: ignore[return-value]


def features(size: tuple[int, int] = (3, 5)) -> Tensor:
    return torch.randn(2, CHANNELS, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Head by head, with the scale 1 / sqrt(C / heads)."""
    width = CHANNELS // HEADS
    outputs = []
    for head in range(HEADS):
        q, k, v = (part[..., head * width : (head + 1) * width] for part in (queries, keys, values))
        outputs.append(torch.softmax(q @ k.mT / width**0.5, -1) @ v)
    return torch.cat(outputs, -1)


def cross(block: LearnerBlock, queries: Tensor, tokens: Tensor) -> Tensor:
    module = block.cross_attn
    keys, values = module.kv(tokens).split(CHANNELS, -1)
    return module.proj(attention(module.to_q(queries), keys, values))


def among(block: LearnerBlock, queries: Tensor) -> Tensor:
    return block.attn.proj(attention(*block.attn.qkv(queries).split(CHANNELS, -1)))


def perceptron(block: LearnerBlock, queries: Tensor) -> Tensor:
    return block.mlp.fc2(F.gelu(block.mlp.fc1(queries)))


def test_pre_norm_block_is_cross_attention_then_self_attention_then_mlp() -> None:
    block = randomised(LearnerBlock(CHANNELS, HEADS))
    queries, tokens = features((1, CLASSES)).flatten(2).mT, features().flatten(2).mT
    expected = queries + cross(block, block.norm1(queries), tokens)
    expected = expected + among(block, block.norm2(expected))
    expected = expected + perceptron(block, block.norm3(expected))
    torch.testing.assert_close(block(queries, block.memory(tokens)), expected, rtol=1e-10, atol=1e-10)


def test_post_norm_block_normalises_each_sum() -> None:
    block = randomised(LearnerBlock(CHANNELS, HEADS, norm="post"))
    queries, tokens = features((1, CLASSES)).flatten(2).mT, features().flatten(2).mT
    expected = block.norm1(queries + cross(block, queries, tokens))
    expected = block.norm2(expected + among(block, expected))
    expected = block.norm3(expected + perceptron(block, expected))
    torch.testing.assert_close(block(queries, block.memory(tokens)), expected, rtol=1e-10, atol=1e-10)


def test_logits_are_dot_products_of_normalised_pixels_and_embeddings() -> None:
    model = learner(num_blocks=1, sharing="none")
    tokens = model.norm_features(features().flatten(2).mT)
    queries = model.queries.weight.expand(2, -1, -1)
    embeddings = model.norm_embs(model.layers[0](queries, model.layers[0].memory(tokens)))
    expected = torch.einsum("bnc,bkc->bkn", tokens, embeddings).view(2, CLASSES, 3, 5)
    torch.testing.assert_close(model(features()), expected, rtol=1e-10, atol=1e-10)


def test_repeated_block_equals_distinct_blocks_of_the_same_weights() -> None:
    repeated, distinct = learner(), learner(sharing="none")
    state = repeated.state_dict()
    copies = {
        f"layers.{i}.{name.removeprefix('layers.0.')}": value
        for name, value in state.items()
        if name.startswith("layers.0.")
        for i in range(3)
    }
    distinct.load_state_dict({**{k: v for k, v in state.items() if "layers" not in k}, **copies})
    torch.testing.assert_close(repeated(features()), distinct(features()), rtol=1e-6, atol=1e-6)


def test_keys_projected_once_make_the_same_function_and_gradients() -> None:
    results = []
    for reuse in (False, True):
        model = learner(reuse_keys=reuse)
        output = model(features())
        output.square().sum().backward()
        results.append([output, *(parameter.grad for parameter in model.parameters())])
    for plain, reused in zip(*results, strict=True):
        torch.testing.assert_close(reused, plain, rtol=1e-9, atol=1e-9)


def test_bias_of_the_last_norm_shifts_all_classes_alike() -> None:
    model = learner()
    before = model(features())
    with torch.no_grad():
        model.norm_embs.bias += 3.0
    after = model(features())
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after.softmax(1), before.softmax(1))


def test_the_first_prediction_is_uniform() -> None:
    (model,) = make_learners(1, num_classes=CLASSES, shape=shape())
    probabilities = model(features().float()).softmax(1)
    torch.testing.assert_close(probabilities, torch.full_like(probabilities, 1 / CLASSES), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("sharing", "blocks", "embeddings"),
    [("repeated", 4, 4), ("none", 12, 4), ("decoder", 3, 4), ("cls", 12, 1), ("decoder_cls", 3, 1)],
)
def test_sharing_decides_how_many_blocks_and_class_embeddings_exist(
    sharing: Sharing, blocks: int, embeddings: int
) -> None:
    learners = nn.ModuleList(make_learners(4, num_classes=CLASSES, shape=shape(sharing=sharing)))
    block = sum(parameter.numel() for parameter in LearnerBlock(CHANNELS, HEADS).parameters())
    norms = 4 * 2 * 2 * CHANNELS
    expected = blocks * block + embeddings * CLASSES * CHANNELS + norms
    assert sum(parameter.numel() for parameter in learners.parameters()) == expected


@pytest.mark.parametrize("sharing", ["repeated", "decoder_cls"])
def test_sharing_survives_a_move_from_the_meta_device(sharing: Sharing) -> None:
    with torch.device("meta"):
        learners = nn.ModuleList(make_learners(2, num_classes=CLASSES, shape=shape(sharing=sharing)))
    before = len(list(learners.parameters()))
    assert len(list(learners.to_empty(device="cpu").parameters())) == before


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads=3 does not divide channels=16"):
        make_learners(1, num_classes=2, shape=shape(num_heads=3))

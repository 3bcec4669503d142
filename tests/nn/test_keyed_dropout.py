import pytest
import torch

from unmask.nn.dropout import keyed_dropout

ONES = torch.ones(3, 50, 40)


def test_the_mask_is_a_function_of_the_key_alone():
    torch.manual_seed(0)
    whole = keyed_dropout(ONES, 0.3, [11, 12, 13], 4)
    torch.manual_seed(1)
    assert torch.equal(whole, keyed_dropout(ONES, 0.3, [11, 12, 13], 4))
    assert torch.equal(whole[[2, 0]], keyed_dropout(ONES[:2], 0.3, [13, 11], 4))  # neither row nor batch matter


def test_it_takes_nothing_from_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    keyed_dropout(ONES, 0.3, [1, 2, 3], 0)
    assert torch.equal(torch.rand(4), expected)


def test_keys_and_layers_tell_masks_apart():
    masks = [keyed_dropout(ONES[:1], 0.5, [key], layer) for key in (7, 8, 2**62) for layer in (0, 1, 2)]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            agreement = float((a == b).float().mean())
            assert agreement == pytest.approx(0.5, abs=0.06)  # as independent masks do; 5 sigma


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_rate_and_the_scale_are_right(p):
    x = torch.full((4, 100, 100), 3.0)
    out = keyed_dropout(x, p, [1, 2, 3, 4], 0)
    assert float((out == 0).float().mean()) == pytest.approx(p, abs=5 * (p * (1 - p) / 40_000) ** 0.5)
    torch.testing.assert_close(out[out != 0], torch.full_like(out[out != 0], 3.0 / (1 - p)))


def test_a_network_in_training_drops_by_its_keys(make_net, tokens):
    net = make_net(dropout=0.3, cond_dim=8)
    cond = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)
    still = net.hidden(tokens, cond, dropout_keys=[1, 2, 3])
    assert torch.equal(still, net.hidden(tokens, cond))  # not in evaluation
    net.train()
    first = net.hidden(tokens, cond, dropout_keys=[1, 2, 3])
    assert not torch.allclose(first, still)
    assert torch.equal(first, net.hidden(tokens, cond, dropout_keys=[1, 2, 3]))
    alone = net.hidden(tokens[1:2], cond[1:2], dropout_keys=[2])
    torch.testing.assert_close(alone, first[1:2], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(first, net.hidden(tokens, cond, dropout_keys=[4, 5, 6]))


def test_without_keys_it_is_plain_dropout(make_net, tokens):
    net = make_net(dropout=0.3).train()
    torch.manual_seed(0)
    first = net.hidden(tokens)
    assert not torch.allclose(first, net.hidden(tokens))
    torch.manual_seed(0)
    assert torch.equal(first, net.hidden(tokens))


def test_every_use_in_a_pass_has_its_own_mask(make_net, tokens, monkeypatch):
    layers = []
    monkeypatch.setattr(
        "unmask.nn.transformer.keyed_dropout", lambda x, p, keys, layer: (layers.append((p, layer)), x)[1]
    )
    make_net(dropout=0.25, depth=3).train().hidden(tokens, dropout_keys=[1, 2, 3])
    assert layers == [(0.25, i) for i in range(6)]

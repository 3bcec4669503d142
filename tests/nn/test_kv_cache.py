import pytest
import torch

from unmask.errors import ConfigError
from unmask.nn import static
from unmask.nn.cache import KVCache, StaticCache
from unmask.nn.static import StaticStep

L = 12


@pytest.fixture
def cond():
    return 0.1 + 2 * torch.rand(3, L, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize(
    "block_size, cuts",
    [(1, [1] * L), (1, [5, 1, 4, 2]), (1, [L]), (4, [4, 4, 4]), (4, [8, 4]), (L, [L])],
)
def test_a_cache_changes_nothing(make_net, tokens, cond, block_size, cuts, conditioned, positions):
    net = make_net(block_size=block_size, cond_dim=8 if conditioned else None, positions=positions)
    cond = cond if conditioned else None
    whole = net.hidden(tokens, cond)
    cache, start = net.cache(3), 0
    for count in cuts:
        part = slice(start, start + count)
        hidden = net.hidden(tokens[:, part], cond[:, part] if conditioned else None, cache=cache, commit=True)
        torch.testing.assert_close(hidden, whole[:, part], rtol=1e-9, atol=1e-9)
        start += count
        assert cache.length == start


@pytest.mark.parametrize("block_size", [1, 4])
def test_peeking_leaves_no_trace(make_net, tokens, cond, block_size):
    net = make_net(block_size=block_size, cond_dim=8)
    whole = net.hidden(tokens, cond)
    cache = net.cache(3)
    for start in range(0, L, 4):
        part = slice(start, start + 4)
        for other in range(3):  # other tokens at other noise, as a denoiser tries them
            peek = net.hidden((tokens[:, part] + other) % 13, 1.3 * cond[:, part], cache=cache)
            assert cache.length == start
            assert (peek - whole[:, part]).abs().max() > 1e-3
        hidden = net.hidden(tokens[:, part], cond[:, part], cache=cache, commit=True)
        torch.testing.assert_close(hidden, whole[:, part], rtol=1e-9, atol=1e-9)


def test_committing_some_and_cropping(make_net, tokens):
    net = make_net(block_size=1)
    whole = net.hidden(tokens)
    cache = net.cache(3)
    net.hidden(tokens[:, :6], cache=cache)
    cache.commit(4)  # the first four of the six
    torch.testing.assert_close(net.hidden(tokens[:, 4:], cache=cache), whole[:, 4:], rtol=1e-9, atol=1e-9)
    cache.crop(2)
    assert cache.length == 2
    torch.testing.assert_close(net.hidden(tokens[:, 2:], cache=cache), whole[:, 2:], rtol=1e-9, atol=1e-9)


def test_a_cache_is_made_to_measure(make_net):
    net = make_net(block_size=1).bfloat16()
    assert net.cache(5).keys.shape == net.cache(5).values.shape == (2, 5, 2, 12, 8)
    cache = net.cache(5, 7)
    assert cache.capacity == 7 and cache.length == 0
    assert cache.keys.dtype == torch.bfloat16


def test_a_full_cache_says_so(make_net, tokens):
    net = make_net(block_size=1)
    cache = net.cache(3, 8)
    net.hidden(tokens[:, :7], cache=cache, commit=True)
    with pytest.raises(ConfigError, match="the cache holds 8 positions, asked for 9"):
        net.hidden(tokens[:, 7:9], cache=cache)


@pytest.mark.parametrize("count", [-1, 4])
def test_no_more_is_committed_than_there_is_room_for(count):
    cache = KVCache.empty(depth=1, batch=1, heads=1, head_width=2, capacity=5)
    cache.commit(2)
    with pytest.raises(ConfigError, match=f"cannot commit {count} positions to 2 of 5"):
        cache.commit(count)
    assert cache.length == 2


@pytest.mark.parametrize("length", [-1, 3])
def test_no_crop_beyond_what_is_held(length):
    cache = KVCache.empty(depth=1, batch=1, heads=1, head_width=2, capacity=5)
    cache.commit(2)
    with pytest.raises(ConfigError, match=f"cannot crop a cache of 2 positions to {length}"):
        cache.crop(length)


def test_what_is_dropped_from_the_front_keeps_the_others_in_place(make_net, tokens):
    net = make_net(block_size=2, length=4)
    whole = net.hidden(tokens)  # 12 tokens: blocks see the last 4 positions
    cache = net.cache(3)
    for start in range(0, 12, 2):
        if cache.length == 4:
            cache.drop(2)
        part = net.hidden(tokens[:, start : start + 2], cache=cache, commit=True)
        torch.testing.assert_close(part, whole[:, start : start + 2], rtol=0, atol=1e-12)
    assert (cache.length, cache.offset) == (4, 8)
    with pytest.raises(ConfigError, match="cannot drop 5 positions of a cache of 4"):
        cache.drop(5)


@pytest.mark.parametrize("positions", ["rotary", "learned"])
@pytest.mark.parametrize("prompt", [0, 5])
def test_steps_of_unchanging_shapes_change_nothing(make_net, tokens, positions, prompt, monkeypatch):
    """A static cache, its steps reading 4, 8 and 12 places, against the whole text at once."""
    monkeypatch.setattr(static, "REACH", 4)
    net = make_net(block_size=1, positions=positions)
    whole = net(tokens)
    cache = StaticCache.like(net.cache(3))
    step, reaches = StaticStep(net, cache), []
    if prompt:
        net.hidden(tokens[:, :prompt], cache=cache, commit=True)
    for i in range(prompt, L):
        torch.testing.assert_close(step(tokens[:, i : i + 1], cache), whole[:, i], rtol=1e-9, atol=1e-9)
        reaches.append(cache.reach)
    assert cache.length == L and reaches == [4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12][prompt:]
    with pytest.raises(ConfigError, match="the cache holds 12 positions, asked for 13"):
        step(tokens[:, :1], cache)
    cache.crop(6)
    torch.testing.assert_close(step(tokens[:, 6:7], cache), whole[:, 6], rtol=1e-9, atol=1e-9)


def test_the_body_compiles_once_for_all_places_of_a_cache(make_net, tokens):
    """torch.compile sees the place as a number that varies: one program for the first token, one for all others."""
    net, compiled = make_net(block_size=1), []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    hidden = torch.compile(net.hidden, backend=backend)
    whole, cache = net.hidden(tokens), net.cache(3)
    with torch.no_grad():
        for i in range(L):
            made = hidden(tokens[:, i : i + 1], cache=cache, commit=True)
            torch.testing.assert_close(made, whole[:, i : i + 1], rtol=1e-9, atol=1e-9)
    assert 1 <= len(compiled) <= 2

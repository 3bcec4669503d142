"""Where training starts from, beyond the initialization that a body gives itself."""

import torch
import torch.nn.functional as F

from unmask.errors import ConfigError
from unmask.nn.transformer import Block, Transformer

STRENGTH = 10.0  # of the logit at the offset that a head starts by looking at


@torch.no_grad()
def look_around(net: Transformer) -> None:
    """Open the gates of an adaLN body, and let each head start by looking at a near offset: +1, -1, +2, -2, ….

    A masked position knows nothing but its neighbors, and a body that starts with closed gates and no sense of place
    needs many hundreds of small batches to find them: until then its loss stays at that of single tokens (see
    LOG.md). Here the shift of the first norm starts as a constant vector, which queries and keys turn into phases
    of the fast rotary frequencies, so that their product peaks at the offset. It is a start and nothing else: every
    number in it is trained.
    """
    c = net.config
    if c.cond_dim is None or net.rotary_emb is None:
        raise ConfigError("starting from the neighbors needs a body with adaLN and rotary positions", "use start=zero")
    d, fast = c.width // c.heads, max(1, c.width // c.heads // 4)
    theta = net.rotary_emb.inv_freq[:fast]
    radius = (STRENGTH * d**0.5 / fast) ** 0.5
    size = 0.5 * c.width**0.5
    for index, block in enumerate(net.blocks):
        assert isinstance(block, Block) and block.adaLN_modulation is not None
        shift, _, gate, _, _, gate_mlp = block.adaLN_modulation.bias.view(6, -1)
        gate.fill_(1)
        gate_mlp.fill_(1)
        for name, parameter in block.named_parameters():
            if name in ("attn_out.weight", "mlp.2.weight"):
                parameter.normal_(0, 0.02 / (2 * c.depth) ** 0.5)
            elif name == "mlp.2.bias":
                parameter.zero_()
        direction = F.normalize(torch.randn(c.width), dim=0)
        shift.copy_(size * direction)
        query, key, _ = block.attn_qkv.weight.view(3, c.heads, d, c.width)
        for head in range(c.heads):
            pair, sign = head // 2, (-1) ** head
            offset = sign * (1 + pair + index % 3 * pair)
            q, k = torch.zeros(d), torch.zeros(d)
            q[:fast] = radius
            k[:fast], k[d // 2 : d // 2 + fast] = radius * (theta * offset).cos(), -radius * (theta * offset).sin()
            query[head] += torch.outer(q, direction) / size
            key[head] += torch.outer(k, direction) / size

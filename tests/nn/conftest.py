from collections.abc import Callable

import pytest
import torch

from unmask.nn.transformer import Transformer, TransformerConfig

MakeNet = Callable[..., Transformer]


@pytest.fixture
def make_net() -> MakeNet:
    """A small float64 body in eval mode whose every parameter is random: none of its parts is idle."""

    def make(**changes: object) -> Transformer:
        shape = {"num_inputs": 13, "num_outputs": 11, "width": 16, "depth": 2, "heads": 2, "length": 12} | changes
        net = Transformer(TransformerConfig(**shape))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(0.5 * torch.randn(p.shape, generator=generator))
        return net.double().eval()

    return make


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(13, (3, 12), generator=torch.Generator().manual_seed(1))

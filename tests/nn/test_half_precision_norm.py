import pytest
import torch

from unmask.nn.transformer import LayerNorm


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_layer_norm_in_half_precision_is_the_float32_one_rounded(dtype):
    norm = LayerNorm(64, bias=True)
    with torch.no_grad():
        for p in norm.parameters():
            p.normal_(generator=torch.Generator().manual_seed(1))
        norm, x = norm.to(dtype), (3 * torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) + 1).to(dtype)
        assert norm.bias is not None
        exact = torch.nn.functional.layer_norm(x.double(), (64,), norm.weight.double(), norm.bias.double(), 1e-5)
        assert norm(x).dtype == dtype and norm(x.float()).dtype == torch.float32
        torch.testing.assert_close(norm(x).double(), exact, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)

"""In what numbers things are computed: half precision where it is said to be, sums and draws where they are wide.

Every operation is watched as it is called, so that a cast which somebody forgets, or puts too early, is seen.
"""

import collections
import copy

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import unmask
from sampling.nets import autoregressive, diffusion
from unmask.text.loader import Loader
from unmask.training import loop

PRODUCTS = {"linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "scaled_dot_product_attention"}
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
HALF, SINGLE, DOUBLE = torch.bfloat16, torch.float32, torch.float64


class Watch(TorchDispatchMode):
    """The types of what each operation was given: {name: {dtype}}, whole numbers but int8 left out."""

    def __init__(self):
        super().__init__()
        self.seen = collections.defaultdict(set)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [x for x in args if isinstance(x, torch.Tensor)]
        self.seen[function.overloadpacket.__name__].update(
            x.dtype for x in given if x.is_floating_point() or x.dtype == torch.int8
        )
        return function(*args, **(kwargs or {}))

    def of(self, *names):
        return set().union(*(self.seen[name] for name in names if name in self.seen))


def sampled(model, **options):
    with Watch() as watch:
        unmask.sample(model, unmask.Canvas.blank(12), seed=0, **options)
    return watch


MODELS = {
    "raw score": (lambda: diffusion(), {"steps": 3}, "logsumexp"),
    "p0 of a score": (lambda: diffusion(), {"steps": 3, "rule": "ancestral"}, "log_softmax"),
    "clean logits": (lambda: diffusion("x0"), {"steps": 3, "rule": "confidence"}, "log_softmax"),
    "autoregressive": (autoregressive, {"top_p": 0.9}, "log_softmax"),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [HALF, SINGLE])
def test_products_are_in_the_dtype_of_the_weights_sums_and_draws_wider(name, dtype):
    make, options, total = MODELS[name]
    watch = sampled(make().to(dtype=dtype), **options)
    assert watch.of(*PRODUCTS) == watch.of("linear") == watch.of("scaled_dot_product_attention") == {dtype}
    assert watch.of("gelu") == {dtype} and watch.of("layer_norm") == {dtype}  # whose kernel sums in float32
    assert watch.of("cos", "sin") == {SINGLE}
    assert watch.of(total) and watch.of("log_softmax", "logsumexp") <= {SINGLE, DOUBLE}
    assert watch.of("cumsum") == {DOUBLE}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [HALF, SINGLE, DOUBLE])
def test_int8_products_are_of_int8_and_nothing_else_changes(name, dtype):
    make, options, _ = MODELS[name]
    model = make().to(dtype=dtype)
    plain, rounded = sampled(copy.deepcopy(model), **options), sampled(model.quantize("int8"), **options)
    assert rounded.of("_int_mm") == {torch.int8} and not plain.of("_int_mm")
    for operation in ("scaled_dot_product_attention", "gelu", "layer_norm", "log_softmax", "logsumexp", "cumsum"):
        assert rounded.of(operation) == plain.of(operation), operation
    left = {"linear"} if model.kind == "diffusion" else set()  # the modulation, one row a step
    assert {operation for operation in PRODUCTS if rounded.of(operation)} == left | {"scaled_dot_product_attention"}


@pytest.mark.parametrize("make", [diffusion, lambda: diffusion("x0"), autoregressive])
@pytest.mark.parametrize(("precision", "inside"), [("bfloat16", HALF), ("float32", SINGLE)])
def test_training_multiplies_in_bfloat16_under_autocast_and_sums_in_float32(
    tmp_path, make, precision, inside, monkeypatch
):
    model, watch, plain = make(), Watch(), loop.objective

    def watched(*given, **options):
        goal = plain(*given, **options)
        forward = goal.forward

        def through(batch):
            with watch:
                return forward(batch)

        goal.forward = through
        return goal

    monkeypatch.setattr(loop, "objective", watched)
    rows = np.random.default_rng(0).integers(0, 7, (16, 12)).astype(np.uint16)
    settings = loop.TrainSettings(steps=2, precision=precision, save_every=2)
    loop.train(model, Loader(rows, global_batch=4, seed=0), settings, tmp_path / "run")
    assert watch.of(*PRODUCTS, ATTENTION) == watch.of("mm", "addmm") == watch.of(ATTENTION) == {inside}
    assert watch.of("native_layer_norm", "layer_norm") == {SINGLE}
    sums = watch.of("_log_softmax", "logsumexp", "log_softmax", "cross_entropy_loss")
    assert sums and sums <= {SINGLE, DOUBLE}
    assert {p.dtype for p in model.net.parameters()} == {SINGLE}

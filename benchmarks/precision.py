"""What bfloat16 and int8 change of the embedded models, against float32: bound, law of a token, judged samples.

python benchmarks/precision.py [--models sedd-twin ar-twin] [--variants bfloat16 int8 int8-bfloat16] [--keep FOLDER]

The noise is the same for all: differences are paired, row by row and sample by sample. Samples are kept in FOLDER, and
what is there already is not made again (--only-samples makes them and measures nothing).
"""

import argparse
import dataclasses
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import unmask
from unmask.evaluation.judge import find_judge
from unmask.evaluation.quality import Quality, judge_samples
from unmask.evaluation.rows import evaluating
from unmask.evaluation.sample_set import SampleSet
from unmask.evaluation.samples import SampleSettings, fingerprint, write_samples
from unmask.model import DiffusionLM, LanguageModel
from unmask.random import fold, uniform
from unmask.recipes.heldout import heldout_rows

JUDGE = "ar-twin"
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of noise, for the law of a token


@dataclasses.dataclass(frozen=True)
class Variant:
    """A dtype of the weights, and a way to quantize them."""

    dtype: torch.dtype
    quantize: str | None = None


BASE = "float32"
VARIANTS = {
    BASE: Variant(torch.float32),
    "bfloat16": Variant(torch.bfloat16),
    "int8": Variant(torch.float32, "int8"),
    "int8-bfloat16": Variant(torch.bfloat16, "int8"),
}


def made(name: str, variant: Variant) -> LanguageModel:
    """The model in these numbers."""
    model = unmask.load(name, dtype=variant.dtype)
    return model if variant.quantize is None else model.quantize(variant.quantize)


def paired(values: Tensor, base: Tensor) -> dict[str, float]:
    """Mean of values - base, [N] each, and its standard error."""
    off = (values - base).double()
    return {"mean": float(off.mean()), "stderr": float(off.std() / math.sqrt(len(off))), "n": len(off)}


def laws(model: LanguageModel, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """log p of a token, [N, V] float64, and the row of each: where the noise of a time hides it, or of the next one."""
    with evaluating(model):
        if not isinstance(model, DiffusionLM):
            log_p = torch.log_softmax(model.net(model.shifted(rows)).double(), -1)
            return [(log_p.flatten(0, 1), torch.arange(len(rows)).repeat_interleave(rows.shape[1]))]
        found = []
        at = torch.arange(rows.numel()).view(rows.shape)
        for time in TIMES:
            gone = float(model.process.schedule.one_minus_alpha(torch.tensor(time, dtype=torch.float64)))
            masked = uniform(fold(0, "masked", time), at) < gone
            xt = torch.where(masked, model.process.num_states - 1, rows)
            log_p = model.log_p0(xt, torch.full((len(rows),), time, dtype=torch.float64), at=masked)
            found.append((torch.log_softmax(log_p.double(), -1), masked.nonzero()[:, 0]))
        return found


def distances(model: LanguageModel, base: LanguageModel, rows: Tensor) -> dict[str, dict[str, float]]:
    """KL(base || model) in nats and total variation of the law of a token: means over positions, errors over rows."""
    kl, tv, counts = (torch.zeros(len(rows), dtype=torch.float64) for _ in range(3))
    for (p, row), (q, _) in zip(laws(base, rows), laws(model, rows), strict=True):
        kl.index_add_(0, row, (p.exp() * (p - q)).sum(-1))
        tv.index_add_(0, row, (p.exp() - q.exp()).abs().sum(-1) / 2)
        counts.index_add_(0, row, torch.ones(len(row), dtype=torch.float64))
    zero = torch.zeros(len(rows))
    return {"kl": paired(kl / counts, zero), "total_variation": paired(tv / counts, zero)}


def sampled(name: str, variant: str, model: LanguageModel, given: argparse.Namespace, folder: Path) -> SampleSet:
    """The samples of the model in these numbers, from the same uniforms in all."""
    steps = given.steps if isinstance(model, DiffusionLM) else None
    settings = SampleSettings(
        name=name, model=name, weights=fingerprint(model), n=given.n, length=model.length, seed=0, steps=steps,
        batch=8, extra={"arithmetic": variant},
    )  # fmt: skip

    print(f"{name} {variant}: {given.n} samples", file=sys.stderr, flush=True)
    return write_samples(folder / f"{name}-{variant}-{given.n}.jsonl", model, settings)


def measured(name: str, given: argparse.Namespace, folder: Path) -> dict[str, dict]:
    """Everything about one model, by variant."""
    base = made(name, VARIANTS[BASE])
    chosen = [BASE, *(variant for variant in given.variants if variant != BASE)]
    sets = {variant: sampled(name, variant, made(name, VARIANTS[variant]), given, folder) for variant in chosen}
    if given.only_samples:
        return {}
    rows, _ = heldout_rows(base, "excerpt", given.rows)
    x, judge, found = torch.from_numpy(rows).long(), find_judge(JUDGE), {}
    for variant in chosen:
        model = made(name, VARIANTS[variant])
        options = {"estimator": "mask-count"} if isinstance(model, DiffusionLM) else {}
        bound = unmask.evaluate.log_likelihood(model, x, times_per_row=given.times, seed=0, **options)
        quality = judge_samples(judge, sets[variant])
        found[variant] = {
            "nats_per_token": bound.nats_per_token, "stderr": bound.stderr, "rows": bound.rows,
            "judged": quality.as_json(), "judged_nats": nats(quality).tolist(),
        }  # fmt: skip
        if variant != BASE:
            found[variant] |= compared(found[variant], found[BASE]) | distances(model, base, x)
            found[variant]["other_tokens"] = differing(sets[variant], sets[BASE])
            print(name, variant, {k: found[variant][k] for k in ("bound", "judge", "kl")}, file=sys.stderr)
    return {v: {k: x for k, x in each.items() if k not in ("rows", "judged_nats")} for v, each in found.items()}


def compared(one: dict, base: dict) -> dict[str, dict[str, float]]:
    """Paired differences of the bound, by row, and of the judge's nats per token, by sample."""
    return {
        "bound": paired(torch.tensor(one["rows"]), torch.tensor(base["rows"])),
        "judge": paired(torch.tensor(one["judged_nats"]), torch.tensor(base["judged_nats"])),
    }


def nats(quality: Quality) -> Tensor:
    """The judge's nats per token of each sample."""
    return torch.tensor(quality.nats) / torch.tensor(quality.tokens)


def differing(one: SampleSet, base: SampleSet) -> float:
    """The share of tokens that are others than in the base's samples."""
    return float(np.mean([np.mean(a != b) for a, b in zip(one.ids, base.ids, strict=True)]))


def table(found: dict[str, dict[str, dict]]) -> list[dict[str, str]]:
    """Rows of docs/results.md."""
    lines = []
    for name, variants in found.items():
        base = variants[BASE]
        for variant, each in variants.items():
            if variant == BASE:
                continue
            floor = f"float32: {base['nats_per_token']:.4f} +- {base['stderr']:.4f}"
            what = "bound" if name != JUDGE else "-log p"
            off, law, judge = each["bound"], each["kl"], each["judge"]
            tv = each["total_variation"]
            lines += [
                {"what": f"{name}, {variant}: change of the {what} ({off['n']} rows of the excerpt, paired)",
                 "value": f"{off['mean']:+.5f} +- {off['stderr']:.5f} nats/token", "floor": floor},
                {"what": f"{name}, {variant}: law of a token against float32's, KL",
                 "value": f"{law['mean']:.5f} +- {law['stderr']:.5f} nats",
                 "floor": f"total variation {tv['mean']:.4f} +- {tv['stderr']:.4f}"},
                {"what": f"{name}, {variant}: change of samples' nats/token, judge {JUDGE} ({judge['n']}, paired)",
                 "value": f"{judge['mean']:+.3f} +- {judge['stderr']:.3f}",
                 "floor": f"float32: {base['judged']['nats_per_token']:.3f} +- {base['judged']['stderr']:.3f}; "
                          f"perplexity {each['judged']['perplexity']:.0f} against {base['judged']['perplexity']:.0f}; "
                          f"{each['other_tokens']:.0%} of tokens are others"},
            ]  # fmt: skip
    return lines


def main() -> None:
    torch.set_flush_denormal(True)  # as the command does
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--models", nargs="+", default=["sedd-twin", "ar-twin"])
    words.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    words.add_argument("--rows", type=int, default=36)
    words.add_argument("--times", type=int, default=16, help="evaluations of a row (diffusion)")
    words.add_argument("-n", type=int, default=64, help="samples")
    words.add_argument("--steps", type=int, default=32)
    words.add_argument("--keep", type=Path, help="where samples are kept")
    words.add_argument("--only-samples", action="store_true")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        found = {name: measured(name, given, folder) for name in given.models}
    if given.only_samples:
        return
    settings = {key: getattr(given, key) for key in ("rows", "times", "n", "steps")}
    print(
        json.dumps(
            {
                "title": "What bfloat16 and int8 change",
                "settings": settings | {"noise_times": TIMES, "judge": JUDGE},
                "models": found,
                "table": table(found),
            }
        )
    )


if __name__ == "__main__":
    main()

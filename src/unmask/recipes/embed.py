"""Make the embedded weights of a finished run: bfloat16 averages, a card with what was measured, and its README.

python -m unmask.recipes.embed runs/sedd src/unmask/weights/sedd --judge runs/ar
python -m unmask.recipes.embed runs/ar src/unmask/weights/ar
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unmask.assets.table import ASSETS
from unmask.checkpoint import read_json, save
from unmask.compat import load
from unmask.evaluation.likelihood import Bound, log_likelihood, normalization
from unmask.model import AutoregressiveLM, DiffusionLM, LanguageModel
from unmask.recipes.heldout import heldout_rows
from unmask.recipes.run import Run, from_json
from unmask.sampling import Canvas, sample
from unmask.text.corpora import corpus_licence
from unmask.training.state import read_metrics

POINTS = 120  # of a training curve, at most
STEPS, ROWS, TIMES = 64, 384, 8  # of what the card reports


def curve(run: Path) -> list[dict[str, float]]:
    """The training curve, thinned: step, tokens seen, loss (nats per token, mean since the last point), held-out."""
    lines = read_metrics(run / "metrics.jsonl")
    losses = [line for line in lines if "loss" in line]
    held = {line["step"]: line["heldout_nats"] for line in lines if "heldout_nats" in line}
    groups = np.array_split(np.arange(len(losses)), min(POINTS, len(losses)))
    points = []
    for group in groups:
        last = losses[int(group[-1])]
        mean = float(np.mean([losses[int(i)]["loss"] for i in group]))
        point = {"step": last["step"], "tokens": last["tokens"], "loss": round(mean, 4)}
        seen = [s for s in held if losses[int(group[0])]["step"] <= s <= last["step"]]
        if seen:
            point["heldout_nats"] = round(held[max(seen)], 4)
        points.append(point)
    return points


def bound_facts(bound: Bound) -> dict[str, Any]:
    """A bound without its rows, rounded."""
    values = dataclasses.asdict(bound)
    values.pop("rows")
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}


def raw_against_normalized(model: DiffusionLM, judge: AutoregressiveLM, *, number: int = 16) -> list[dict[str, Any]]:
    """Raw Tweedie and normalized ancestral sampling at 64 steps, judged by the autoregressive twin."""
    rows = []
    for rule in ("tweedie", "ancestral"):
        made = sample(model, Canvas.blank(model.length, batch=number), steps=STEPS, rule=rule, seed=0)
        bound = log_likelihood(judge, made.tokens)
        rows.append({
            "rule": rule, "reads": made.reads, "steps": STEPS, "n": number, "judge": "the autoregressive twin",
            "judge_nats_per_token": round(bound.nats_per_token, 4), "stderr": round(bound.stderr, 4),
            "unigram_entropy_nats": round(mean_entropy(made.tokens), 4), "clipped_mass": made.clipped_mass,
        })  # fmt: skip
    return rows


def mean_entropy(tokens: torch.Tensor) -> float:
    """Entropy of the tokens within a row, nats, mean over rows [N, L]."""
    values = []
    for row in tokens:
        p = torch.unique(row, return_counts=True)[1].double() / row.numel()
        values.append(float(-(p * p.log()).sum()))
    return float(np.mean(values))


def measure(model: LanguageModel, judge: AutoregressiveLM | None) -> dict[str, Any]:
    """The card's numbers: the held-out bound and, for raw scores, how normalized they are."""
    rows, protocol = heldout_rows(model, None, ROWS)
    facts: dict[str, Any] = {"protocol": protocol | {"times_per_row": TIMES}}
    facts["heldout"] = bound_facts(log_likelihood(model, rows, times_per_row=TIMES, seed=0))
    if isinstance(model, DiffusionLM):
        facts["normalization"] = [dataclasses.asdict(x) for x in normalization(model, rows[:128])]
        if judge is not None:
            facts["sampling"] = raw_against_normalized(model, judge)
    return facts


def embed(run_folder: Path, target: Path, judge: AutoregressiveLM | None = None, history: str = "") -> Path:
    """Write the package data of a run into `target`, replacing what is there.

    history: what the card has to say of a run that was not made in one go.
    """
    run = from_json(read_json(run_folder / "config.json"))
    model = load(run_folder)
    model.net.to(torch.bfloat16).float()  # measured as it will be read
    facts = measure(model, judge)
    model.card |= {
        "name": run.name, "parameters": model.net.num_parameters, "command": f"unmask train --recipe {run.name}",
        "run": run.as_json(), "licences": licences(run.data.corpus), "curves": curve(run_folder), "measured": facts,
        "history": history,
    }  # fmt: skip
    save(model, target, dtype=torch.bfloat16)
    (target / "README.md").write_text(readme(model, run), encoding="utf-8")
    return target


def licences(corpus: str) -> list[dict[str, str]]:
    """Licence and attribution of each corpus."""
    rows = []
    for name in corpus.split("+"):
        asset = ASSETS.get(name)
        rows.append({
            "corpus": name, "licence": corpus_licence(name),
            "description": asset.description if asset else "", "attribution": asset.attribution if asset else "",
        })  # fmt: skip
    return rows


def readme(model: LanguageModel, run: Run) -> str:
    """The model card, in Markdown."""
    card = model.card
    held, data = card["measured"]["heldout"], card["data"]
    seen = card["curves"][-1]["tokens"]
    sign = "" if held["exact"] else "at most "
    what = "score entropy on raw scores" if isinstance(model, DiffusionLM) else "next-token cross-entropy"
    text = [
        f"# {run.name}\n",
        f"A small {model.kind} language model of English, {card['parameters']:,} parameters, context {model.length} "
        f"tokens, trained with {what} for {run.train.steps:,} steps of {run.batch_size} rows ({seen / 1e6:.1f} M "
        f"tokens, {seen / data['train_tokens']:.1f} passes over the corpus). It is for trying the library and for "
        "comparing the two kinds of model at one size; it knows little, and says false things fluently.\n",
        "## Held-out text\n",
        f"{sign}{held['nats_per_token']:.4f} ± {held['stderr']:.4f} nats per token, perplexity {sign}"
        f"{held['perplexity']:.2f}, {sign}{held['bits_per_byte']:.4f} bits per byte "
        f"({held['n']} rows, whole documents kept from training).\n",
    ]
    if not held["exact"]:
        parts = ", ".join(f"{k} {v:.4f}" for k, v in held["parts"].items())
        text.append(f"The bound is {parts}. The paper's quantity, without the last two, is {held['paper']:.4f}.\n")
    text += _diffusion_facts(card["measured"])
    text += ["## Data and licences\n", f"{data['train_tokens']:,} tokens of {data['train_documents']:,} documents.\n"]
    for row in card["licences"]:
        text.append(f"- `{row['corpus']}`: {row['description']}. {row['licence']}. {row['attribution']}".rstrip())
    text += ["\n## Again\n", f"```sh\n{card['command']} --out runs/{run.name.replace('/', '-')}\n```\n"]
    text += [f"{card['history']}\n"] if card.get("history") else []
    text += _curve_table(card["curves"])
    return "\n".join(text) + "\n"


def _diffusion_facts(measured: dict[str, Any]) -> list[str]:
    if "normalization" not in measured:
        return []
    lines = ["## How normalized it became\n", "(e^sigma - 1) times the sum of the scores at masks; 1 is normalized.\n"]
    lines += ["| t | mean | standard deviation |", "|---|---|---|"]
    lines += [f"| {row['t']:.2f} | {row['mean']:.4f} | {row['std']:.4f} |" for row in measured["normalization"]]
    for row in measured.get("sampling", []):
        if row["rule"] == "tweedie":
            lines += ["\nRaw Tweedie against normalized ancestral sampling, judged by the autoregressive twin:\n"]
            lines += ["| rule | model | steps | n | nats per token | unigram entropy |", "|---|---|---|---|---|---|"]
        lines.append(
            f"| {row['rule']} | {row['reads']} | {row['steps']} | {row['n']} | {row['judge_nats_per_token']:.3f} ± "
            f"{row['stderr']:.3f} | {row['unigram_entropy_nats']:.3f} |"
        )
    return [*lines, ""]


def _curve_table(curves: list[dict[str, float]]) -> list[str]:
    lines = ["## Curve\n", "| step | M tokens | training loss | held out |", "|---|---|---|---|"]
    for point in curves[:: max(1, len(curves) // 15)] + curves[-1:]:
        held = f"{point['heldout_nats']:.4f}" if "heldout_nats" in point else ""
        lines.append(f"| {point['step']:,} | {point['tokens'] / 1e6:.2f} | {point['loss']:.4f} | {held} |")
    return lines


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--judge", help="an autoregressive model that judges samples")
    parser.add_argument("--history", default="", help="how the run was made, where not in one go")
    given = parser.parse_args()
    judge = load(given.judge) if given.judge else None
    if judge is not None and not isinstance(judge, AutoregressiveLM):
        parser.error("--judge must be an autoregressive model")
    print(embed(given.run, given.target, judge, given.history), file=sys.stdout)


if __name__ == "__main__":
    main()

"""A run on one's own text: its sizes are chosen from how much text there is, the machine and the minutes.

What is not given by hand is chosen, in this order, and each choice comes with its reason:

    vocabulary  the largest of which every entry is met MEETINGS times on average
    context     the longest that leaves 8 rows of held-out text and 64 to train on; 256 tokens on a CPU, 1024 on a GPU
    batch       4096 tokens a step on a CPU, 32,768 on a GPU, in parts that memory holds; fewer, down to
                4 rows, where the time would hold less than FEWEST steps
    width       the largest of SIZES whose blocks see TOKENS_PER_PARAMETER tokens a parameter in the time, timed by real
                steps, and have at most PARAMETERS_PER_TOKEN parameters for each token of the text
    steps       as many as the time holds, and at most PASSES over the text
    looks       at held-out text: 2 to 20, a tenth of the time

A run that begins with a model (`init`) has that model's vocabulary, context and width, and a tenth of the rates.
"""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from unmask.errors import ConfigError
from unmask.model import LanguageModel
from unmask.recipes.data import bpe_size, tokenizer_of
from unmask.recipes.init import check_shape, own_tokenizer, shape_of
from unmask.recipes.run import DataSettings, Run, with_values
from unmask.recipes.train import LOOKS, fresh
from unmask.sampling.batching import free_memory
from unmask.text.corpora import Corpus
from unmask.text.loader import Loader
from unmask.training.loop import accelerator, seconds_per_step
from unmask.training.settings import PRECISIONS

# width and depth of a body
SIZES = ((64, 2), (96, 3), (128, 4), (192, 4), (256, 6), (384, 8), (512, 8), (768, 12), (1024, 24))
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, arXiv 2203.15556; of autoregressive models, and not tuned here
PARAMETERS_PER_TOKEN = 4  # beyond, a text is learned by heart; looks at held-out text guard the rest
PASSES = {"diffusion": 100, "ar": 16}  # new masks make a text last: Prabhudesai et al. 2025, arXiv 2507.15857
MEETINGS = 100
BYTES_PER_TOKEN = {512: 2.0, 1024: 2.5, 2048: 3.0, 4096: 3.5, 8192: 4.0, 50257: 4.4}  # of English, by vocabulary
FEWEST = 300  # steps: small diffusion models stand still for about so many (LOG.md)
STEPPING = 0.85  # of the time goes into steps
TRYING = 0.05  # of the time may go into trials of sizes
MINUTES = 10.0

Pace = Callable[[Run], float]  # seconds a step


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much text there is: documents and bytes, to train on and held out."""

    documents: int
    train_bytes: int
    heldout_bytes: int

    @classmethod
    def of(cls, corpus: Corpus) -> "Amount":
        """Read a corpus through once. DataError where it holds no text."""
        documents, sizes = 0, [0, 0]
        for document in corpus.items():
            documents += 1
            sizes[document.heldout] += len(document.text.encode())
        return cls(documents, *sizes)


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a run has: an accelerator or None, threads, processes, and free bytes of memory for each."""

    device: str
    threads: int
    processes: int
    memory: float

    @classmethod
    def here(cls) -> "Machine":
        """This one. With several processes they agree on the smallest memory."""
        ranks = accelerator()
        free = torch.tensor([free_memory(ranks.device)], dtype=torch.float32, device=ranks.device)
        memory = float(ranks.gather(free).min())
        return cls(ranks.device.type, torch.get_num_threads(), ranks.num_processes, memory)

    def words(self) -> str:
        """For people."""
        what = f"{self.threads} threads" if self.device == "cpu" else self.device
        many = f"{self.processes} processes of " if self.processes > 1 else ""
        return f"{many}{what}, {self.memory / 1e9:.0f} GB of memory free"


def timed(first: LanguageModel | None) -> Pace:
    """Seconds a step of a run, from a few real steps on random rows with a model that is thrown away."""

    def pace(run: Run) -> float:
        vocab = vocabulary(run.data.tokenizer, first)
        model = fresh(run.model, vocab, eos_id=vocab - 1) if first is None else copy.deepcopy(first)
        rows = np.random.default_rng(0).integers(0, vocab, (run.batch_size, run.model.length))
        return seconds_per_step(model, Loader(rows, global_batch=run.batch_size, seed=0), run.train)

    return pace


def vocabulary(tokenizer: str, first: LanguageModel | None) -> int:
    """How many tokens the setting `tokenizer` stands for, at most."""
    size = bpe_size(tokenizer)
    if size is None:
        own = first.tokenizer if tokenizer == "model" and first is not None else None
        return (own or tokenizer_of(tokenizer)).vocab_size
    return size


@dataclasses.dataclass
class _Plan:
    """A run that is being chosen, and why."""

    run: Run
    given: frozenset[str]
    reasons: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def put(self, chosen: dict[str, Any], why: str) -> None:
        """Choose settings by their full names; those given by hand stay as they are."""
        self.run = self.trial(chosen)
        values = _flat(self.run.as_json())
        shown = [f"{name.rsplit('.', 1)[-1]}={values[name]}" for name in chosen]
        hand = [name.rsplit(".", 1)[-1] for name in chosen if name in self.given]
        by_hand = "by hand" if len(hand) == len(chosen) else f"{' and '.join(hand)} by hand; {why}"
        self.reasons.append((" ".join(shown), by_hand if hand else why))

    def trial(self, chosen: dict[str, Any]) -> Run:
        """The run as `put` would make it."""
        return with_values(self.run, {k: v for k, v in chosen.items() if k not in self.given})


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def own_run(data: str, *, field: str = "text", init: str | None = None, lora: int = 0) -> Run:
    """What is the same for every run on one's own text, before sizes are chosen."""
    run = Run("custom", data=DataSettings(corpus=data, field=field), init=init, sample_tokens=48)
    optim = {"optimizer": "muon", "lr": 1e-3, "muon_lr": 0.02, "schedule": "cooldown", "ema": 0.999}
    if init is not None:
        optim |= {"lr": 1e-4, "muon_lr": 2e-3}
    if lora:
        optim |= {"optimizer": "adamw", "lr": 1e-3}
    values: dict[str, Any] = {f"train.optim.{name}": value for name, value in optim.items()}
    values |= {"train.lora": lora, "train.eval_every": 1, "train.patience": 3}
    return with_values(run, values | ({"data.tokenizer": "model"} if init is not None else {}))


def choose(
    run: Run,
    given: frozenset[str],
    amount: Amount,
    machine: Machine,
    *,
    minutes: float = MINUTES,
    first: LanguageModel | None = None,
    pace: Pace | None = None,
) -> tuple[Run, list[tuple[str, str]]]:
    """The run with its sizes chosen, and (settings, reason) of each choice.

    given: full names of settings that were set by hand and stay. first: the model that the run begins with. pace: for
    tests. ConfigError for a time that is not positive.
    """
    if not 0 < minutes < float("inf"):
        raise ConfigError(f"--minutes must be above 0, got {minutes}")
    plan, pace = _Plan(run, given), pace or timed(first)
    _text(plan, amount, machine, first)
    _batch(plan, amount, machine, first)
    _size(plan, amount, machine, 60 * minutes, first, pace)
    _micro_batch(plan, machine, first)
    seconds = None
    if "train.steps" not in given:
        seconds = _more_steps(plan, machine, 60 * minutes, _precision(plan, pace), pace)
    _time(plan, amount, 60 * minutes, seconds)
    return plan.run, plan.reasons


def tokens(size: int, tokenizer: str) -> int:
    """About how many tokens so many bytes of text are."""
    vocab = bpe_size(tokenizer) or 50257
    nearest = min(BYTES_PER_TOKEN, key=lambda known: abs(np.log(known / max(vocab, 1))))
    return int(size / BYTES_PER_TOKEN[nearest])


def _text(plan: _Plan, amount: Amount, machine: Machine, first: LanguageModel | None) -> None:
    """Vocabulary and context."""
    if first is not None:
        shape = {f"model.{k}": v for k, v in dataclasses.asdict(shape_of(first)).items() if k != "dropout"}
        shown = {k: v for k, v in shape.items() if k.split(".")[1] in ("kind", "width", "depth", "heads", "length")}
        plan.run = plan.trial(shape)
        check_shape(plan.run, shape_of(first))
        own_tokenizer(plan.run, first)
        plan.put(shown, f"as {plan.run.init} has them, with its tokenizer")
    else:
        most = 4096 if machine.device == "cpu" else 8192
        fitting = [v for v in BYTES_PER_TOKEN if v <= most and tokens(amount.train_bytes, f"bpe:{v}") >= MEETINGS * v]
        size = max(fitting, default=min(BYTES_PER_TOKEN))
        known = tokens(amount.train_bytes, f"bpe:{size}")
        plan.put({"data.tokenizer": f"bpe:{size}"}, f"of about {known:,} tokens each entry is {known // size:,}")
        name = plan.run.data.tokenizer
        held, train = (tokens(n, name) for n in (amount.heldout_bytes, amount.train_bytes))
        length = 256 if machine.device == "cpu" else 1024
        while length > 16 and (held < 8 * length or train < 64 * length):
            length //= 2
        plan.put({"model.length": length}, f"about {held:,} tokens are held out, {held // length:,} rows")
    kind = plan.run.model.kind
    neighbors = kind == "sedd" and first is None
    small = {"train.t_power": 1.0 if kind == "ar" else 2.0, "model.start": "neighbors" if neighbors else "zero"}
    plan.run = plan.trial(small)


def _batch(plan: _Plan, amount: Amount, machine: Machine, first: LanguageModel | None) -> None:
    length = plan.run.model.length
    target = 4096 if machine.device == "cpu" else 32768
    rows = tokens(amount.train_bytes, plan.run.data.tokenizer) // length
    size = 2 ** int(np.log2(max(1, min(target // length, rows // 4))))  # so that 2, 4 or 8 processes do not change it
    size = -(-size // machine.processes) * machine.processes
    plan.put({"batch_size": size}, f"{size * length:,} tokens a step")


def _micro_batch(plan: _Plan, machine: Machine, first: LanguageModel | None) -> None:
    """Part the batch where a rank's share of it would need more than half of the memory."""
    shape, vocab = plan.run.model, vocabulary(plan.run.data.tokenizer, first)
    row = shape.length * (80 * shape.depth * shape.width + 12 * vocab)  # bytes of activations, and of logits
    fits = max(1, int(0.5 * machine.memory / row))
    if fits < plan.run.batch_size // machine.processes:
        plan.put({"train.micro_batch": fits}, f"a row takes about {row / 1e6:,.0f} MB")


def blocks(width: int, depth: int) -> int:
    """Parameters of the blocks of a body, embeddings, head and modulation not counted."""
    return 12 * width * width * depth


def heads(width: int) -> int:
    """How many heads a width gets: of 32 to 64 numbers each, where it divides."""
    wanted = max(2, min(4, width // 32), width // 64)
    return next((h for h in range(min(wanted, width), 0, -1) if width % h == 0 and width // h % 2 == 0), 1)


def body(width: int, depth: int) -> dict[str, Any]:
    """The settings of a body."""
    return {"model.width": width, "model.depth": depth, "model.heads": heads(width)}


def _size(
    plan: _Plan, amount: Amount, machine: Machine, budget: float, first: LanguageModel | None, pace: Pace
) -> None:
    """Choose width, depth and heads."""
    if first is not None:
        return
    if "model.width" in plan.given:
        width = plan.run.model.width
        depth = next((d for w, d in reversed(SIZES) if w <= width), SIZES[0][1])
        plan.put(body(width, depth), "they go with that width")
        return
    known = tokens(amount.train_bytes, plan.run.data.tokenizer)
    batch = plan.run.batch_size * plan.run.model.length
    chosen, why, left, took = SIZES[0], "the largest that is tried", TRYING * budget, 0.0
    if "train.precision" not in plan.given:  # asked again for the chosen size: it hangs on it
        plan.run = with_values(plan.run, {"train.precision": _faster(plan.trial(body(*SIZES[0])), pace)[0][1]})
    for size in SIZES:
        trial = plan.trial(body(*size))
        shape, own = trial.model, blocks(trial.model.width, trial.model.depth)
        if shape.width % shape.heads or shape.width // shape.heads % 2:
            continue  # heads by hand
        if took and own > PARAMETERS_PER_TOKEN * known:
            why = f"the next, {own:,}, are more than {PARAMETERS_PER_TOKEN} for each of about {known:,} tokens"
            break
        if took and 4 * took * own / blocks(*chosen) > left:
            why = "a larger one could not be tried in the time"
            break
        seconds = pace(trial)
        left -= 4 * seconds
        seen = STEPPING * budget / seconds * batch
        if took and seen < TOKENS_PER_PARAMETER * own:
            why = f"the next, {own:,}, would see {seen / own:.1f} tokens each in the time, not {TOKENS_PER_PARAMETER}"
            break
        chosen, took = size, seconds
    made = plan.trial(body(*chosen)).model
    plan.put(body(*chosen), f"{blocks(made.width, made.depth):,} parameters in the blocks; {why}")


def _faster(run: Run, pace: Pace) -> list[tuple[float, str]]:
    """(seconds a step, precision), the faster first."""
    return sorted((pace(with_values(run, {"train.precision": name})), name) for name in PRECISIONS)


def _precision(plan: _Plan, pace: Pace) -> float:
    """The faster precision, where it is not given; returns the seconds a step."""
    if "train.precision" in plan.given:
        return pace(plan.run)
    (best, name), (other, slower) = _faster(plan.run, pace)
    plan.put({"train.precision": name}, f"{best:.3f} s a step, {other:.3f} in {slower}")
    return best


def _more_steps(plan: _Plan, machine: Machine, budget: float, seconds: float, pace: Pace) -> float:
    """Smaller batches where the time would hold few steps; returns the seconds a step."""
    whole = size = plan.run.batch_size
    while size * seconds / whole * FEWEST > STEPPING * budget and size >= 8 and size // 2 % machine.processes == 0:
        size //= 2
    if size == whole or "batch_size" in plan.given:
        return seconds
    plan.reasons = [reason for reason in plan.reasons if not reason[0].startswith("batch_size")]
    why = f"{size * plan.run.model.length:,} tokens a step, few, so that there are about {FEWEST} steps or more"
    plan.put({"batch_size": size}, why)
    return pace(plan.run)


def _time(plan: _Plan, amount: Amount, budget: float, seconds: float | None) -> None:
    """Steps, and how often to look."""
    run = plan.run
    batch = run.batch_size * run.model.length
    passes = PASSES["ar" if run.model.kind == "ar" else "diffusion"]
    known = tokens(amount.train_bytes, run.data.tokenizer)
    if seconds is None:
        plan.put({"train.steps": run.train.steps}, "")
    else:
        fits, enough = max(1, int(STEPPING * budget / seconds)), max(1, passes * known // batch)
        time = f"{STEPPING:.0%} of {budget / 60:.3g} minutes"
        why = time if fits <= enough else f"{passes} passes over the text are enough"
        steps = min(fits, enough)
        plan.put({"train.steps": steps}, f"{why}; {seconds:.3f} s each, {steps * batch / max(known, 1):.1f} passes")
    steps = plan.run.train.steps
    held = min(run.data.heldout_rows, max(1, tokens(amount.heldout_bytes, run.data.tokenizer) // run.model.length))
    evaluations = 1 if run.model.kind == "ar" else LOOKS + 1
    cost = held * evaluations / (3 * run.batch_size)  # in steps, each of which reads its rows three times over
    looks = int(min(20, max(2, 0.1 * steps / cost)))
    every = max(1, -(-steps // looks))
    plan.put({"train.eval_every": every}, f"{looks} looks at {held} rows of held-out text, a bound with its error")
    rest = {
        "train.save_every": every, "train.log_every": min(50, max(1, steps // 100)),
        "train.optim.warmup": min(100, steps // 10),
    }  # fmt: skip
    plan.run = plan.trial(rest)

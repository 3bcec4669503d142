"""Rows for the worker, and what came of them."""

import threading
import time
from collections.abc import Callable

from unmask.model import AutoregressiveLM
from unmask.sampling import Canvas, denoise, generate
from unmask.serve.engine import Engine
from unmask.serve.work import Look, Row, Way


def way(**options) -> Way:
    plain = {"temperature": 1.0, "top_p": 1.0}
    return Way(**{field: options.get(field, plain.get(field)) for field in Way.__dataclass_fields__})


class Told:
    """Collects the looks at one row; `then` is called with each."""

    def __init__(self, canvas: Canvas, name: str = "m", seed: int = 0, sample: int = 0, **options) -> None:
        self.looks: list[Look] = []
        self.error: Exception | None = None
        self.ended, self.when = threading.Event(), 0.0
        self.then: Callable[[Look], bool] = lambda look: False
        self.row = Row(name, way(**options), canvas, seed, sample, self._watch, self._fail)

    def _watch(self, look: Look) -> bool:
        self.looks.append(look)
        enough = self.then(look)
        if enough or look.last:
            self.when = time.monotonic()
            self.ended.set()
        return enough

    def _fail(self, error: Exception) -> None:
        self.error = error
        self.ended.set()

    def wait(self) -> list[int]:
        assert self.ended.wait(60), "the row does not end"
        if self.error is not None:
            raise self.error
        return self.looks[-1].tokens.tolist()


def alone(model, told: Told) -> list[int]:
    """What the row is without a server."""
    row, options = told.row, {k: v for k, v in vars(told.row.way).items() if v is not None and k != "top"}
    if isinstance(model, AutoregressiveLM):
        return generate(model, row.canvas, seed=row.seed, first_sample=row.sample, **options).tokens[0].tolist()
    frames = list(denoise(model, row.canvas, seed=row.seed, first_sample=row.sample, **options))
    return frames[-1].tokens[0].tolist()


def run(model, *rows: Told, slots: int = 8, queue: int = 64) -> Engine:
    """All rows, submitted before the worker starts, to their end."""
    engine = Engine({"m": model}, slots=slots, queue=queue)
    for told in rows:
        engine.submit([told.row])
    engine.start()
    for told in rows:
        told.wait()
    engine.close(60)
    assert not engine.alive
    return engine

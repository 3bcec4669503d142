"""The worker: one thread that moves all rows of all models, batch by batch, until each is finished.

Rows wait in the order in which they came. At every move those that fit join, and those that are finished leave, so
that a row never waits for a longer one. Rows of one kind that join together are a cohort; all cohorts of a model share
the evaluations of its network. Of several models, the one that has had the least time moves next.

A finished row may bring work of its own, such as the measurement of its text. It is done a piece at a time between
moves, and while there are rows to move it gets no more time than they do. Of such rows only those of one length move at
once, in half of the slots: the others wait in their own order, and let pass all other rows.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence

from unmask.errors import UnmaskError
from unmask.model import AutoregressiveLM, LanguageModel
from unmask.serve.cohort import Cohort, begin
from unmask.serve.sharing import Ask, together
from unmask.serve.work import Look, Row

LONGEST_WAIT = 60  # seconds that a client is told to wait at most before it tries again


class FullError(UnmaskError):
    """No room for more rows; retry_after in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("the server has as many requests as it takes", f"try again in {retry_after} s")
        self.retry_after = retry_after


class ClosedError(UnmaskError):
    """The server is about to stop."""


class Lane:
    """The rows of one model. All but `waiting` and `active` belong to the worker's thread.

    behind: finished rows whose work is not done yet; they take no slot.
    """

    def __init__(self, model: LanguageModel, slots: int) -> None:
        self.model, self.slots = model, slots
        self.waiting: deque[Row] = deque()
        self.joining: list[Row] = []
        self.cohorts: list[Cohort] = []
        self.behind: deque[tuple[Row, Look]] = deque()
        self.active = 0  # rows that wait no more
        self.used = 0.0  # seconds of the worker
        self.evaluations = self.rows_evaluated = self.finished = 0
        self.pace = 1.0  # seconds of the worker a finished row, lately
        self._spent = 0.0  # since a row was last finished
        self._owed = 0.0  # seconds that moves may take before the next piece of work behind them

    @property
    def moving(self) -> bool:
        """Whether there is a row to move, or work behind one."""
        return bool(self.active or self.behind)

    @property
    def busy(self) -> bool:
        """Whether there is a row to move, or one that waits."""
        return bool(self.moving or self.waiting)

    @property
    def rows(self) -> int:
        """All of them."""
        return self.active + len(self.waiting) + len(self.behind)

    def take(self) -> Row | None:
        """The first row that waits and may join now, out of the queue; None where there is none."""
        if self.active >= self.slots:
            return None
        rows = [*self.joining, *(row for cohort in self.cohorts for row in cohort.rows)]
        lengths = [row.canvas.length for row in rows if row.behind is not None]
        closed = bool(lengths) and 2 * len(lengths) >= self.slots  # to rows with work behind them
        for place, row in enumerate(self.waiting):
            if row.behind is not None:
                closed = closed or any(length != row.canvas.length for length in lengths)
                if closed:  # also to those of its sort that came later: none of them overtakes it
                    continue
            del self.waiting[place]
            return row
        return None

    def move(self) -> None:
        """Take in those that join, move every row once, tell them, and let those leave that are finished."""
        began = time.monotonic()
        self._move()
        took = time.monotonic() - began
        self._owed -= took
        self._count_time(took)

    def work_behind(self) -> None:
        """A piece of the work behind finished rows, if it is its turn."""
        self.behind = deque((row, look) for row, look in self.behind if not row.cancelled)
        if not self.behind or (self.cohorts and self._owed > 0):
            return
        began, (row, look) = time.monotonic(), self.behind.popleft()
        assert row.behind is not None
        try:
            row.behind(look)
        except Exception as error:
            row.fail(error)
        self._owed = time.monotonic() - began
        self._count_time(self._owed)

    def _count_time(self, took: float) -> None:
        self.used += took
        self._spent += took

    def _move(self) -> None:
        joining, self.joining = self.joining, []
        kinds: dict[object, list[Row]] = {}
        for row in joining:
            kinds.setdefault(row.kind, []).append(row)
        for rows in kinds.values():
            try:
                self.cohorts.append(begin(self.model, rows))
            except Exception as error:
                _fail(rows, error)
        for cohort in self.cohorts:
            _keep(cohort, [not row.cancelled for row in cohort.rows])
        self.cohorts = [cohort for cohort in self.cohorts if cohort.rows]
        moved = self._moved()
        for cohort in self.cohorts:
            for batch in cohort.evaluated:
                self._count(batch)
            cohort.evaluated.clear()
            self._tell(cohort, moved[id(cohort)])
        self.cohorts = [cohort for cohort in self.cohorts if cohort.rows]

    def _moved(self) -> dict[int, list[Look] | Exception]:
        """What came of a move of each cohort, by its id."""
        out: dict[int, list[Look] | Exception] = {}
        waiting = list(self.cohorts)
        while waiting:
            asks: dict[int, list[tuple[Cohort, Ask]]] = {}
            for cohort in waiting:
                try:
                    out[id(cohort)] = cohort.move()
                except Ask as ask:
                    asks.setdefault(ask.xt.shape[1], []).append((cohort, ask))
                except Exception as error:
                    out[id(cohort)] = error
            waiting = []
            for asked in asks.values():
                waiting += self._answered(asked, out)
        return out

    def _answered(self, asked: list[tuple[Cohort, Ask]], out: dict[int, list[Look] | Exception]) -> list[Cohort]:
        """Ask the network for all of them at once; those that have an answer now."""
        assert not isinstance(self.model, AutoregressiveLM)
        try:
            answers = together(self.model, [ask for _, ask in asked])
        except Exception as error:
            out.update({id(cohort): error for cohort, _ in asked})
            return []
        self._count(sum(len(ask.xt) for _, ask in asked))
        for (cohort, _), answer in zip(asked, answers, strict=True):
            cohort.answer(answer)
        return [cohort for cohort, _ in asked]

    def _count(self, rows: int) -> None:
        self.evaluations += 1
        self.rows_evaluated += rows

    def _tell(self, cohort: Cohort, came: list[Look] | Exception) -> None:
        if isinstance(came, Exception):
            _fail(cohort.rows, came)
            cohort.rows = []
            return
        stays = []
        for row, look in zip(cohort.rows, came, strict=True):
            try:
                finished = row.watch(look) or look.last
                if finished and row.behind is not None:
                    self.behind.append((row, look))
            except Exception as error:
                row.fail(error)
                finished = True
            stays.append(not finished)
            if finished:
                self.finished += 1
                self.pace += 0.1 * (self._spent - self.pace)
                self._spent = 0.0
        _keep(cohort, stays)


def _keep(cohort: Cohort, stays: list[bool]) -> None:
    if not any(stays):
        cohort.rows = []
    elif not all(stays):
        cohort.keep([i for i, stay in enumerate(stays) if stay])


def _fail(rows: Sequence[Row], error: Exception) -> None:
    for row in rows:
        row.fail(error)


class Engine:
    """The lanes, their queue and the thread.

    slots: rows of a model that are moved at once. queue: rows of a model that may wait beside them. gather: seconds
    that an idle lane waits for more rows before it begins, so that those which come together are one cohort.
    """

    def __init__(self, models: Mapping[str, LanguageModel], *, slots: int, queue: int, gather: float = 0.003) -> None:
        self.lanes = {name: Lane(model, slots) for name, model in models.items()}
        self._room, self._gather = slots + queue, gather
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="unmask-worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, rows: Sequence[Row]) -> None:
        """Take the rows of a request, all or none. FullError where there is no room, ClosedError after `close`."""
        lane = self.lanes[rows[0].model]
        with self._changed:
            if self._closing:
                raise ClosedError("the server is about to stop", "try another one, or later")
            if lane.rows + len(rows) > self._room:
                waiting = len(lane.waiting) + len(lane.behind)
                raise FullError(max(1, min(LONGEST_WAIT, math.ceil(lane.pace * (waiting + len(rows))))))
            if not lane.busy:  # idle time is no claim on the worker
                lane.used = max(lane.used, min((o.used for o in self.lanes.values() if o.busy), default=0.0))
            for row in rows:
                row.arrived = time.monotonic()
            lane.waiting.extend(rows)
            self._changed.notify()

    def cancel(self, rows: Sequence[Row]) -> None:
        """Nobody waits for the rows any more: they leave before the next move."""
        gone = set(map(id, rows))
        with self._changed:
            for row in rows:
                row.cancelled = True
            lane = self.lanes[rows[0].model]
            lane.waiting = deque(row for row in lane.waiting if id(row) not in gone)
            self._changed.notify()

    def close(self, patience: float | None = None) -> None:
        """Take no more rows, finish those that are there, and end the thread; wait for it at most that many seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience)

    def _work(self) -> None:
        while (lane := self._next()) is not None:
            try:
                lane.move()
            except Exception as error:  # a mistake of ours: those rows fail, the others go on
                for cohort in lane.cohorts:
                    _fail(cohort.rows, error)
                lane.cohorts = []
            with self._changed:
                lane.active = sum(len(cohort.rows) for cohort in lane.cohorts)
            lane.work_behind()

    def _next(self) -> Lane | None:
        """The lane that moves next, with those that join it; waits for one. None once there is no more work to come."""
        with self._changed:
            while True:
                ready, pause = self._ready()
                if ready:
                    lane = min(ready, key=lambda lane: lane.used)
                    while (row := lane.take()) is not None:
                        lane.joining.append(row)
                        lane.active += 1
                    return lane
                if pause is None and self._closing:
                    return None
                self._changed.wait(pause)

    def _ready(self) -> tuple[list[Lane], float | None]:
        """Lanes with something to move, and how long the next one will gather rows yet."""
        now, pauses = time.monotonic(), list[float]()
        ready = [lane for lane in self.lanes.values() if lane.moving]
        for lane in self.lanes.values():
            if not lane.moving and lane.waiting:
                left = lane.waiting[0].arrived + self._gather - now
                if left <= 0 or len(lane.waiting) >= lane.slots:
                    ready.append(lane)
                else:
                    pauses.append(left)
        return ready, min(pauses, default=None)

"""What Prometheus reads at /metrics."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from unmask.serve.engine import Engine

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)


class Metrics:
    """Counters of requests and tokens, and what the engine counts, in a registry of their own."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "unmask_requests", "Answers, by route and status.", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "unmask_request_seconds", "From a request to the end of its answer.", ["route"], buckets=SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self._tokens = Counter(
            "unmask_tokens", "Tokens of finished requests: given, and written.", ["model", "kind"],
            registry=self.registry,
        )  # fmt: skip
        self._engine = engine
        self.registry.register(self)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def wrote(self, model: str, given: int, written: int) -> None:
        """Count the tokens of a request."""
        self._tokens.labels(model, "given").inc(given)
        self._tokens.labels(model, "written").inc(written)

    def collect(self) -> Iterator[Metric]:
        """What the engine counts, by model."""
        counted = {
            "unmask_evaluations": ("Evaluations of the network that moved samples.", "evaluations"),
            "unmask_evaluated_rows": ("Rows in these evaluations: their quotient is the mean batch.", "rows_evaluated"),
            "unmask_finished_rows": ("Samples finished.", "finished"),
            "unmask_worker_seconds": ("Seconds of the worker.", "used"),
        }
        for name, (words, field) in counted.items():
            family = CounterMetricFamily(name, words, labels=["model"])
            for model, lane in self._engine.lanes.items():
                family.add_metric([model], getattr(lane, field))
            yield family
        rows = GaugeMetricFamily(
            "unmask_rows", "Samples that are moved, wait, or are measured.", labels=["model", "state"]
        )
        for model, lane in self._engine.lanes.items():
            rows.add_metric([model, "active"], lane.active)
            rows.add_metric([model, "waiting"], len(lane.waiting))
            rows.add_metric([model, "measured"], len(lane.behind))
        yield rows

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self.registry)

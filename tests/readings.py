"""Metrics and spans, read back as they would be exported."""

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

POOL_NAME = "db.client.connection.pool.name"
STATE = "db.client.connection.state"


class Metrics:
    """A meter provider, with what was recorded through it."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])

    def end(self) -> None:
        self.provider.shutdown()

    def all(self, scope_name: str | None = None) -> list[Any]:
        """List the metrics, of one library or of all."""
        data = self.reader.get_metrics_data()
        return [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if scope_name in {None, scope.scope.name}
        ]

    def points(self, metric_name: str, pool_name: str | None) -> list[Any]:
        return [
            point
            for metric in self.all()
            if metric.name == metric_name
            for point in metric.data.data_points
            if pool_name in {None, point.attributes.get(POOL_NAME)}
        ]

    def sum(self, metric_name: str, pool_name: str | None = None) -> int:
        return sum(point.value for point in self.points(metric_name, pool_name))

    def counts(self, pool_name: str) -> tuple[int, int]:
        """Tell how many connections are idle and used."""
        points = self.points("db.client.connection.count", pool_name)
        found = {p.attributes[STATE]: p.value for p in points}
        return found.get("idle", 0), found.get("used", 0)

    def histogram(self, metric_name: str, pool_name: str) -> Any:
        (point,) = self.points(metric_name, pool_name)
        return point

    def pools(self) -> set[str]:
        """Name all that are counted now."""
        return {p.attributes[POOL_NAME] for p in self.points("db.client.connection.max", None)}

    def gauges(self, pool_name: str) -> dict[str, int]:
        """Give all numbers that are no histograms, by the last part of their names, or by their state."""
        return {
            point.attributes.get(STATE) or metric.name.removeprefix("db.client.connection."): (
                point.value
            )
            for metric in self.all()
            for point in metric.data.data_points
            if point.attributes[POOL_NAME] == pool_name and hasattr(point, "value")
        }


class Spans:
    """A tracer provider, with the spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def end(self) -> None:
        self.provider.shutdown()

    def all(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())

    def of_waits(self) -> list[Any]:
        return [span for span in self.all() if span.name.startswith("acquire ")]

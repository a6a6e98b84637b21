"""redis-py's telemetry, switched on for one test and read back."""

from collections import Counter
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from redis.asyncio.observability import recorder as async_recorder
from redis.observability import recorder as sync_recorder
from redis.observability.config import MetricGroup, OTelConfig
from redis.observability.providers import (
    OTelProviderManager,
    get_observability_instance,
    reset_observability_instance,
)


class Telemetry:
    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._provider = MeterProvider([self._reader])
        config = OTelConfig(metric_groups=list(MetricGroup))
        manager = OTelProviderManager(config)
        # Not the global provider, which can be set only once in a process.
        manager._meter_provider = self._provider
        get_observability_instance()._provider_manager = manager
        self._forget_collectors()

    def _forget_collectors(self) -> None:
        async_recorder._async_metrics_collector = None
        sync_recorder._metrics_collector = None

    def end(self) -> None:
        get_observability_instance()._provider_manager = None
        reset_observability_instance()
        self._forget_collectors()
        self._provider.shutdown()

    def _points(self, metric_name: str, pool_name: str | None) -> list[Any]:
        data = self._reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == metric_name
            for point in metric.data.data_points
            if pool_name in {None, point.attributes.get("db.client.connection.pool.name")}
        ]

    def sum(self, metric_name: str, pool_name: str | None = None) -> int:
        return sum(point.value for point in self._points(metric_name, pool_name))

    def counts(self, pool_name: str) -> tuple[int, int]:
        """Tell how many connections are idle and used."""
        points = self._points("db.client.connection.count", pool_name)
        found = {p.attributes["db.client.connection.state"]: p.value for p in points}
        return found.get("idle", 0), found.get("used", 0)

    def operations(self) -> dict[str, int]:
        """Tell how often each command was timed."""
        found: Counter[str] = Counter()
        for point in self._points("db.client.operation.duration", None):  # of each server and error
            found[point.attributes["db.operation.name"]] += point.count
        return dict(found)

    def histogram(self, metric_name: str, pool_name: str) -> Any:
        (point,) = self._points(metric_name, pool_name)
        return point

"""redis-py's telemetry, switched on for one test and read back."""

from collections import Counter

from readings import Metrics
from redis.asyncio.observability import recorder as async_recorder
from redis.observability import recorder as sync_recorder
from redis.observability.config import MetricGroup, OTelConfig
from redis.observability.providers import (
    OTelProviderManager,
    get_observability_instance,
    reset_observability_instance,
)


class Telemetry(Metrics):
    def __init__(self) -> None:
        super().__init__()
        config = OTelConfig(metric_groups=list(MetricGroup))
        manager = OTelProviderManager(config)
        # Not the global provider, which can be set only once in a process.
        manager._meter_provider = self.provider
        get_observability_instance()._provider_manager = manager
        self._forget_collectors()

    def _forget_collectors(self) -> None:
        async_recorder._async_metrics_collector = None
        sync_recorder._metrics_collector = None

    def end(self) -> None:
        get_observability_instance()._provider_manager = None
        reset_observability_instance()
        self._forget_collectors()
        super().end()

    def operations(self) -> dict[str, int]:
        """Tell how often each command was timed."""
        found: Counter[str] = Counter()
        for point in self.points("db.client.operation.duration", None):  # of each server and error
            found[point.attributes["db.operation.name"]] += point.count
        return dict(found)

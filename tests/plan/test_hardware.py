"""Prices by hand."""

import pytest

from vigreux.errors import ConfigError
from vigreux.plan.hardware import DEVICES, CachePrice, Cluster


def test_clusters():
    one, many = Cluster.named("h100"), Cluster.named("H100x64")
    assert one.count == 1
    assert many.rate == pytest.approx(64 * 989e12 * 0.4)
    assert many.memory == 64 * 80e9
    assert Cluster.named("mi300xx8").device == DEVICES["mi300x"]
    assert Cluster.named("mi300x").count == 1


@pytest.mark.parametrize("name", ["tpu", "h100x0", "64xh100", ""])
def test_what_is_no_machine(name):
    with pytest.raises(ConfigError, match="--hardware: unknown value"):
        Cluster.named(name)


def test_when_a_cache_pays():
    price = CachePrice(bytes=1, capture_flops=10, live_flops=15, cached_flops=5)
    assert [price.flops(n, cached=True) for n in (0, 1, 2)] == [10, 15, 20]
    assert [price.flops(n, cached=False) for n in (0, 1, 2)] == [0, 15, 30]
    assert price.pays_from == 2  # with one student both cost 15
    assert CachePrice(1, 9, 15, 5).pays_from == 1
    assert CachePrice(1, 10, 5, 5).pays_from is None

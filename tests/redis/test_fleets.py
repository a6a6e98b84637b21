"""The fleets do what they say, or tests on them would prove little."""

import pytest
from fleets import slot_of
from redis.exceptions import AskError, MovedError


@pytest.fixture
def key(cluster_fleet):
    cluster_fleet.master_of("key").run("SET", "key", "value")
    return "key"


def test_a_failover_of_the_cluster_loses_nothing_and_healing_undoes_it(cluster_fleet, key):
    first = cluster_fleet.masters()
    master = cluster_fleet.master_of(key)
    replica = cluster_fleet.replica_of(master)
    cluster_fleet.failover(replica)
    assert cluster_fleet.master_of(key) is replica
    assert cluster_fleet.replica_of(replica) is master
    assert replica.run("GET", key) == "value"
    other = next(one for one in cluster_fleet.masters() if one in first)
    cluster_fleet.migrate([slot_of(key)], other)
    cluster_fleet.heal()
    assert cluster_fleet.masters() == first
    assert cluster_fleet.master_of(key) is master
    assert master.run("GET", key) == "value"


def test_a_slot_on_its_way_sends_askers_on_and_arrives_with_its_keys(cluster_fleet, key):
    source = cluster_fleet.master_of(key)
    target = next(master for master in cluster_fleet.masters() if master is not source)
    slot = slot_of(key)
    cluster_fleet.begin_migration(slot, target)
    assert source.run("GET", key) == "value"
    assert cluster_fleet.move_keys(slot) == 1
    with pytest.raises(AskError, match=str(target.port)):
        source.run("GET", key)
    assert cluster_fleet.master_of(key) is source
    cluster_fleet.end_migration(slot)
    assert cluster_fleet.master_of(key) is target
    assert target.run("GET", key) == "value"
    with pytest.raises(MovedError, match=str(target.port)):
        source.run("GET", key)


def test_healing_finishes_a_migration_that_was_left_half_done(cluster_fleet, key):
    source = cluster_fleet.master_of(key)
    target = next(master for master in cluster_fleet.masters() if master is not source)
    cluster_fleet.begin_migration(slot_of(key), target)
    cluster_fleet.move_keys(slot_of(key))
    cluster_fleet.heal()
    assert cluster_fleet.master_of(key) is source
    assert source.run("GET", key) == "value"


def test_a_killed_or_frozen_master_of_the_cluster_is_replaced(fresh_cluster_fleet):
    fleet = fresh_cluster_fleet
    first = fleet.masters()
    killed, frozen = first[:2]
    expected = {fleet.replica_of(killed), fleet.replica_of(frozen), first[2]}
    killed.kill()
    fleet.wait_until_ok()
    with frozen.frozen():  # a second loss, while there is still a majority of masters
        fleet.wait_until_ok()
        assert set(fleet.masters()) == expected
    fleet.heal()
    assert fleet.masters() == first


def test_clients_of_a_fleet_are_those_who_use_it(cluster_fleet, sentinel_fleet):
    for fleet in (cluster_fleet, sentinel_fleet):
        assert not any(fleet.clients().values())
        server = fleet.replicas()[0]
        client = server.admin()
        client.client_setname("somebody")
        found = {port: [c["name"] for c in clients] for port, clients in fleet.clients().items()}
        client.close()
        assert found.pop(server.port) == ["somebody"]
        assert not any(found.values())
        assert len(found) == 5


def test_sentinels_replace_a_killed_master_and_healing_undoes_it(fresh_sentinel_fleet):
    fleet = fresh_sentinel_fleet
    first = fleet.master()
    first.run("SET", "key", "value")
    first.run("WAIT", 2, 5000)
    first.kill()
    fleet.wait_until_ok()
    second = fleet.master()
    assert second is not first
    assert second.run("GET", "key") == "value"
    fleet.heal()
    assert fleet.master() is first
    assert second in fleet.replicas()
    assert first.run("GET", "key") == "value"


def test_two_sentinels_replace_a_frozen_master_without_the_third(fresh_sentinel_fleet):
    fleet = fresh_sentinel_fleet
    first = fleet.master()
    fleet.sentinels[0].kill()
    with first.frozen():
        fleet.wait_until_ok()
        assert fleet.master() is not first

"""The example service as its users run it: uvicorn in a process of its own, on a real Redis server."""

import asyncio
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import pytest
from redis import Redis

from aiopool import RedisPool
from aiopool._cli._redis_server import redis_server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
# On a socket that it has inherited. When uvicorn has stopped it sends the signal to itself, which by default ends
# the process on the spot. Here it goes on to its end, where Python would warn of what was left open.
SERVE = """
import signal, socket, sys, uvicorn
signal.signal(signal.SIGTERM, signal.SIG_IGN)
config = uvicorn.Config(sys.argv[1], timeout_graceful_shutdown=10, log_level="warning")
uvicorn.Server(config).run([socket.socket(fileno=int(sys.argv[2]))])
"""
QUICK_LEASE = """
import os
from aiopool import RedisPool
from fastapi_service import create_app
app = create_app(RedisPool(os.environ["REDIS_URL"], decode_responses=True), lease=1.0)
"""
DEADLINE = 1.5
SHORT_DEADLINE = f"""
import os
import fastapi_service
from aiopool import RedisPool
fastapi_service.DEADLINE = {DEADLINE}
pool = RedisPool(os.environ["REDIS_URL"], timeout=1.0, decode_responses=True)
app = fastapi_service.create_app(pool, workers=0)
"""
addresses = (f"10.0.{n // 250}.{n % 250}" for n in count())  # of clients, each with its own limit


class Service:
    def __init__(self, redis_url, folder, app="fastapi_service:app"):
        path = [str(ROOT), str(EXAMPLES), str(folder)]
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            self.port = listener.getsockname()[1]
            self.errors = folder / f"stderr-{self.port}"
            with self.errors.open("a") as errors:
                self.process = subprocess.Popen(  # noqa: S603 - its own words
                    [sys.executable, "-W", "error", "-c", SERVE, app, str(listener.fileno())],
                    env=os.environ | {"REDIS_URL": redis_url, "PYTHONPATH": os.pathsep.join(path)},
                    stderr=errors,
                    pass_fds=[listener.fileno()],
                )

    def wait_until_up(self):
        try:
            assert self.get("/metrics")[0] == 200
        except OSError:
            pytest.fail(self.complaints())

    def ask(self, method, path, body=None, client=None):
        """Give a response whose body is still to be read."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"X-Forwarded-For": client or next(addresses)}
        try:
            if body is not None:
                body, headers["Content-Type"] = json.dumps(body), "application/json"
            connection.request(method, path, body, headers)
            response = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        response.connection = connection
        return response

    def get(self, path, client=None):
        """Give status, headers and body."""
        response = self.ask("GET", path, client=client)
        with closing(response.connection), response:
            return response.status, response.headers, response.read().decode()

    def post(self, path, body):
        response = self.ask("POST", path, body)
        with closing(response.connection), response:
            return json.loads(response.read())

    def origin_requests(self):
        (line,) = [
            each
            for each in self.get("/metrics")[2].splitlines()
            if each.startswith("origin_requests_total ")
        ]
        return float(line.split()[1])

    def lent(self, view):
        pools = json.loads(self.get("/debug/pool/snapshot.json")[2])["pools"]
        (pool,) = [pool for pool in pools if pool["name"].startswith(view)]
        return pool["stats"]["lent"]

    def complaints(self):
        """Give what it has said on stderr since it was last asked."""
        said = self.errors.read_text()
        os.truncate(self.errors, 0)
        return said

    def stop(self):
        """Stop it as an orchestrator does; it may have nothing to complain of."""
        self.process.terminate()
        assert self.process.wait(20) == 0
        assert self.complaints() == ""

    def kill(self):
        """End it without a word, if it has not ended."""
        self.process.kill()
        self.process.wait(20)


class Stream:
    """A client that listens."""

    def __init__(self, service, channel):
        self.response = service.ask("GET", f"/events/{channel}")
        assert self.response.status == 200
        assert self.response.headers["Content-Type"].startswith("text/event-stream")
        assert self.lines(1) == [": subscribed"]

    def lines(self, number):
        """Give the next lines that are not empty."""
        lines = []
        while len(lines) < number:
            line = self.response.readline()
            assert line, "the stream has ended"
            lines += [line.decode().strip()] if line.strip() else []
        return lines

    def close(self):
        self.response.close()
        self.response.connection.close()


def until(condition, what, within=20):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)


def together(*calls):
    """Make all of these calls at once."""
    with ThreadPoolExecutor(len(calls)) as threads:
        return [each.result() for each in [threads.submit(call) for call in calls]]


@pytest.fixture(scope="module")
def redis_url():
    with redis_server() as url:
        yield url


@pytest.fixture(scope="module")
def services(redis_url, tmp_path_factory):
    """Two processes of the same service."""
    folder = tmp_path_factory.mktemp("services")
    services = [Service(redis_url, folder) for _ in range(2)]
    try:
        for service in services:
            service.wait_until_up()
        yield services
        for service in services:
            service.stop()
    finally:
        for service in services:
            service.kill()


@pytest.fixture
def service(services):
    return services[0]


@pytest.fixture
def redis(redis_url):
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        yield redis


@pytest.fixture
def empty_redis_url():
    """The address of a server that no service uses yet."""
    with redis_server() as url:
        yield url


@pytest.fixture
def empty_redis(empty_redis_url):
    with Redis.from_url(empty_redis_url, decode_responses=True, client_name="test") as redis:
        yield redis


@pytest.fixture
def start(empty_redis_url, tmp_path):
    """Start a service there; it is gone when the test ends."""
    started = []

    def start(**options):
        started.append(Service(empty_redis_url, tmp_path, **options))
        started[-1].wait_until_up()
        return started[-1]

    yield start
    for service in started:
        service.kill()


@pytest.fixture
def example(monkeypatch):
    """The package itself, for tests of one part of it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    for part in ("cache", "jobs", "stopping"):
        importlib.import_module(f"fastapi_service.{part}")
    return importlib.import_module("fastapi_service")


def run(scenario, redis_url):
    """Run a scenario with a pool, in this process."""

    async def main():
        async with RedisPool(redis_url, decode_responses=True) as pool, asyncio.timeout(20):
            await scenario(pool)

    asyncio.run(main())


def others(redis):
    return [each for each in redis.client_list() if each["name"] != "test"]


# ---- cache ---------------------------------------------------------------------------------------


def test_of_many_that_miss_an_item_in_two_processes_one_asks_the_origin(services, redis):
    before = sum(service.origin_requests() for service in services)
    calls = [lambda service=service: service.get("/items/tea") for service in services * 15]
    answers = together(*calls)
    assert {(status, body) for status, _, body in answers} == {
        (200, '{"name": "tea", "length": 3}')
    }
    assert sum(service.origin_requests() for service in services) == before + 1
    assert 0 < redis.pttl("cache:tea") <= 10_000


def test_what_has_expired_is_asked_for_again(service, redis):
    before = service.origin_requests()
    service.get("/items/milk")
    redis.pexpire("cache:milk", 1)
    until(lambda: not redis.exists("cache:milk"), "it has expired")
    assert service.get("/items/milk")[0] == 200
    assert service.origin_requests() == before + 2


def test_no_item_has_the_key_of_the_lock_of_another(example, redis_url):
    async def scenario(pool):
        async def origin(name):  # called while the item's lock is there
            if name == "kettle":
                return await cache.get("kettle:lock") + await cache.get("lock:kettle")
            return f"<{name}>"

        cache = example.cache.Cache(pool.client(), origin)
        assert await cache.get("kettle") == "<kettle:lock><lock:kettle>"

    run(scenario, redis_url)


def test_a_lock_that_is_lost_while_the_origin_is_asked_is_no_error(example, redis_url, caplog):
    async def scenario(pool):
        async def origin(_name):
            assert await pool.client().delete("lock:lost") == 1
            return "found"

        cache = example.cache.Cache(pool.client(), origin)
        assert await asyncio.gather(*(cache.get("lost") for _ in range(3))) == ["found"] * 3
        assert "no longer owned" in caplog.text

    run(scenario, redis_url)


def test_who_leaves_does_not_take_the_value_from_others_that_wait_for_it(example, redis_url):
    async def scenario(pool):
        asked, answer = asyncio.Event(), asyncio.Event()

        async def origin(name):
            asked.set()
            await answer.wait()
            return name

        cache = example.cache.Cache(pool.client(), origin)
        leaves, *stay = [asyncio.create_task(cache.get("shared")) for _ in range(3)]
        await asked.wait()
        leaves.cancel()
        await asyncio.wait([leaves])
        answer.set()
        assert await asyncio.gather(*stay) == ["shared"] * 2

    run(scenario, redis_url)


# ---- limit ---------------------------------------------------------------------------------------


def test_of_requests_at_once_so_many_are_let_in_as_are_allowed_in_all_processes(services):
    services[0].get("/items/limited")
    client = next(addresses)
    calls = [
        lambda service=service: service.get("/items/limited", client) for service in services * 14
    ]
    answers = together(*calls)
    assert sorted(status for status, _, _ in answers) == [200] * 20 + [429] * 8
    for status, headers, _ in answers:
        if status == 429:
            assert 1 <= int(headers["Retry-After"]) <= 10
    assert services[0].get("/items/limited", next(addresses))[0] == 200


def test_who_goes_on_asking_is_let_in_again_when_the_window_is_over(service, redis):
    client = next(addresses)
    assert service.get("/items/limited", client)[0] == 200
    redis.set(f"limit:{client}", 20, px=500)  # as if it had asked often, and long ago
    assert service.get("/items/limited", client)[0] == 429
    until(lambda: service.get("/items/limited", client)[0] == 200, "it is let in", within=5)


# ---- events --------------------------------------------------------------------------------------


def test_what_is_published_in_one_process_is_streamed_by_all(services):
    streams = [Stream(service, "news") for service in services * 2]
    assert services[0].post("/events/news", {"text": "one\ntwo"}) == {"listeners": 4}
    for stream in streams:
        assert stream.lines(1) == ['data: {"text": "one\\ntwo"}']
        stream.close()


def test_streams_cant_take_all_connections_and_those_that_are_gone_give_theirs_back(service):
    until(lambda: service.lent("streams") == 0, "there is none")
    streams = [Stream(service, "crowd") for _ in range(8)]
    assert service.lent("streams") == 8
    status, headers, _ = service.get(
        "/events/crowd"
    )  # it waits for as long as the pool has it wait
    assert status == 503
    assert int(headers["Retry-After"]) >= 1
    assert service.complaints().startswith("PoolTimeout of RedisPool 'streams of ")
    assert service.get("/items/while-crowded")[0] == 200
    for stream in streams:
        stream.close()
    until(lambda: service.lent("streams") == 0, "all have given theirs back")
    Stream(service, "crowd").close()


# ---- jobs ----------------------------------------------------------------------------------------


def result(service, job):
    return json.loads(service.get(f"/jobs/{job}")[2]).get("result")


def test_a_job_is_done(service, redis):
    job = service.post("/jobs", {"text": "to be or not"})["job"]
    until(lambda: result(service, job) == "4 words", "it is done")
    assert redis.lrange("jobs", 0, -1) == redis.lrange("jobs:taken", 0, -1) == []
    assert not redis.exists(f"lease:{job}")
    assert service.get("/jobs/none")[0] == 404


def test_a_lease_can_not_be_looked_at_as_if_it_were_a_job(example, empty_redis_url):
    async def scenario(pool):
        async def look(_text):
            return f"{await jobs.find(f'{job}:lease')} {await jobs.find(f'lease:{job}')}"

        jobs = example.jobs.Jobs(pool.client(), pool.client(), look)
        job = await jobs.push("")
        await jobs.work()
        assert (await jobs.find(job))["result"] == "{} {}"

    run(scenario, empty_redis_url)


def test_of_a_job_that_fails_clients_learn_no_more_than_that(example, empty_redis_url, caplog):
    async def scenario(pool):
        async def fail(_text):
            msg = "postgres://user:secret@db"
            raise OSError(msg)

        jobs = example.jobs.Jobs(pool.client(), pool.client(), fail)
        job = await jobs.push("a")
        await jobs.work()
        assert await jobs.find(job) == {"state": "failed", "text": "a"}
        assert "secret" in caplog.text

    run(scenario, empty_redis_url)


def test_a_job_that_takes_half_its_lease_has_failed(example, empty_redis, empty_redis_url):
    async def scenario(pool):
        async def endless(_text):
            await asyncio.Future()

        jobs = example.jobs.Jobs(pool.client(), pool.client(), endless, lease=0.2)
        job = await jobs.push("a")
        async with asyncio.timeout(5):
            await jobs.work()
        assert (await jobs.find(job))["state"] == "failed"
        assert empty_redis.llen("jobs") == empty_redis.llen("jobs:taken") == 0

    run(scenario, empty_redis_url)


def test_workers_go_on_when_their_connections_were_cut(service, redis):
    until(lambda: service.lent("workers") == 2, "they wait for jobs")
    assert redis.client_kill_filter(_type="normal", skipme=True) > 2
    job = service.post("/jobs", {"text": "still here"})["job"]
    until(lambda: result(service, job) == "2 words", "it is done")


def test_jobs_of_a_process_that_was_killed_are_done_by_the_next(start, empty_redis, tmp_path):
    (tmp_path / "quick_lease.py").write_text(QUICK_LEASE)
    service = start(app="quick_lease:app")
    jobs = [service.post("/jobs", {"text": "word " * n})["job"] for n in range(6)]
    until(lambda: empty_redis.llen("jobs:taken") == 2, "two are under way")
    service.kill()
    lost = empty_redis.llen("jobs:taken")
    assert lost
    assert lost + empty_redis.llen("jobs") + done(empty_redis, jobs) == 6
    service = start(app="quick_lease:app")
    for n, job in enumerate(jobs):
        until(lambda job=job, n=n: result(service, job) == f"{n} words", "all are done")
    service.stop()


def done(redis, jobs):
    return sum(redis.hget(f"job:{job}", "state") == "done" for job in jobs)


def with_endless_work(example, pool):
    """Give jobs that never end, and what tells that one has begun."""
    begun = asyncio.Event()

    async def endless(_text):
        begun.set()
        await asyncio.Future()

    return example.jobs.Jobs(pool.client(), pool.client(), endless), begun


def test_a_job_that_does_not_end_in_time_is_given_back_at_once(
    example, empty_redis, empty_redis_url
):
    def queues():
        return [empty_redis.lrange(name, 0, -1) for name in ("jobs", "jobs:taken")]

    async def scenario(pool):
        jobs, begun = with_endless_work(example, pool)
        first, second = [await jobs.push(text) for text in ("a", "b")]
        work = asyncio.create_task(jobs.work())
        await begun.wait()
        assert queues() == [[second], [first]]
        work.cancel()
        await asyncio.wait([work])
        assert work.cancelled()
        assert queues() == [[second, first], []]  # the right one is next

    run(scenario, empty_redis_url)


def test_a_job_that_another_has_put_back_is_not_put_back_again(
    example, empty_redis, empty_redis_url
):
    async def scenario(pool):
        jobs, begun = with_endless_work(example, pool)
        job = await jobs.push("a")
        work = asyncio.create_task(jobs.work())
        await begun.wait()
        empty_redis.lmove("jobs:taken", "jobs")  # as when its lease is over
        work.cancel()
        await asyncio.wait([work])
        assert empty_redis.lrange("jobs", 0, -1) == [job]

    run(scenario, empty_redis_url)


# ---- Redis hangs, or is down ---------------------------------------------------------------------


@contextmanager
def frozen(redis):
    """Have a server hang: its connections stay, new ones come about, and nobody is answered."""
    process = redis.info("server")["process_id"]
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_while_redis_hangs_all_are_told_503_within_the_deadline_and_then_it_goes_on(
    start, empty_redis, tmp_path
):
    (tmp_path / "short_deadline.py").write_text(SHORT_DEADLINE)
    service = start(app="short_deadline:app")
    paths = ["/items/tea", "/jobs/none", "/events/news"]
    stream = Stream(service, "news")
    assert [service.get(path)[0] for path in paths[:2]] == [200, 404]
    with frozen(empty_redis):
        begun = time.monotonic()
        for _ in range(2):  # on connections that there are; and then there are none
            answers = together(*[lambda path=path: service.get(path) for path in paths])
            assert [status for status, _, _ in answers] == [503] * 3
            assert all(int(headers["Retry-After"]) >= 1 for _, headers, _ in answers)
        assert time.monotonic() - begun < 2 * DEADLINE + 2
        assert service.get("/metrics")[0] == 200
    assert f": no answer within {DEADLINE} s" in service.complaints()
    until(lambda: service.get("/items/tea")[0] == 200, "it is answered again")
    assert service.get("/jobs/none")[0] == 404
    # The deadline has spared the stream, whose answer had begun.
    assert service.post("/events/news", {"text": "back"}) == {"listeners": 1}
    while stream.lines(1) != ['data: {"text": "back"}']:
        pass
    stream.close()
    service.process.terminate()
    assert service.process.wait(20) == 0  # having complained of Redis until it was back


def test_of_a_redis_that_is_down_clients_are_told_503(start, empty_redis):
    service = start()
    assert service.get("/items/tea")[0] == 200
    empty_redis.shutdown(nosave=True)

    def redis_py_has_told():
        assert service.get("/jobs/none")[0] == 503
        return "/jobs/none: ConnectionError: " in service.complaints()

    until(redis_py_has_told, "the retries are over")


# ---- what it tells -------------------------------------------------------------------------------


def test_pool_and_views_are_in_the_metrics_and_on_the_page(service):
    metrics = service.get("/metrics")[2]
    pools = json.loads(service.get("/debug/pool/snapshot.json")[2])["pools"]
    assert [pool["kind"] for pool in pools] == ["RedisPool", "view", "view"]
    for pool in pools:
        assert f'pool="{pool["name"]}"' in metrics
    assert "<title>" in service.get("/debug/pool/")[2]


# ---- the beginning and the end --------------------------------------------------------------------


def test_an_app_may_live_again_on_another_event_loop(empty_redis_url, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    from fastapi_service import create_app  # noqa: PLC0415 - from where it is now

    app = create_app(RedisPool(empty_redis_url, decode_responses=True))

    async def live():
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0.05)
            return len(asyncio.all_tasks()) - 1

    assert (
        asyncio.run(live()) == asyncio.run(live()) == 4
    )  # workers, caretaker, who ends the streams


@pytest.fixture
def app_with_an_endless_job(example, empty_redis, empty_redis_url, monkeypatch):
    """Gives a context in which the app lives, up to a grace of nothing, and does a job that does not end."""
    begun = asyncio.Event()

    async def endless(_text):
        begun.set()
        await asyncio.Future()

    def endless_jobs(redis, reader, _do, lease):
        return example.jobs.Jobs(redis, reader, endless, lease)

    @asynccontextmanager
    async def living():
        app = example.create_app(RedisPool(empty_redis_url, decode_responses=True))
        async with app.router.lifespan_context(app):
            empty_redis.lpush("jobs", "endless")
            await begun.wait()
            yield

    monkeypatch.setattr(example, "GRACE", 0)
    monkeypatch.setattr(example, "Jobs", endless_jobs)
    return living()


def test_who_has_not_finished_after_the_grace_puts_its_job_back(
    app_with_an_endless_job, empty_redis
):
    async def scenario():
        async with app_with_an_endless_job:
            assert empty_redis.llen("jobs") == 0
        assert empty_redis.lrange("jobs", 0, -1) == ["endless"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())
    until(lambda: not others(empty_redis), "no connection is left")


def test_it_ends_soon_while_redis_hangs(app_with_an_endless_job, empty_redis):
    async def scenario():
        async with app_with_an_endless_job:
            hangs.enter_context(frozen(empty_redis))

    with ExitStack() as hangs:
        begun = time.monotonic()
        asyncio.run(scenario())
        assert time.monotonic() - begun < 8
    assert empty_redis.llen("jobs") + empty_redis.llen("jobs:taken") == 1  # it is not lost


def test_signals_are_passed_on_and_later_they_are_the_servers_again(example):
    heard = []

    def server(number, _frame):
        heard.append(number)

    async def scenario():
        stopping = asyncio.Event()
        with example.stopping.told_at_once(stopping):
            signal.raise_signal(number)
            await asyncio.wait_for(stopping.wait(), 5)
        return signal.getsignal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.signal(number, server)
        try:
            assert asyncio.run(scenario()) is server
        finally:
            signal.signal(number, before)
    assert heard == [signal.SIGINT, signal.SIGTERM]


def test_stopped_under_load_it_loses_nothing_and_leaves_nothing(start, empty_redis):
    service = start()
    streams = [Stream(service, "news") for _ in range(4)]
    jobs = [service.post("/jobs", {"text": "word " * n})["job"] for n in range(12)]
    with ThreadPoolExecutor(40) as threads:
        items = [threads.submit(service.get, f"/items/{n}") for n in range(40)]
        until(lambda: service.origin_requests() == 40, "all are under way")
        service.stop()
        for n, item in enumerate(items):
            status, _, body = item.result()
            assert (status, json.loads(body)["name"]) == (200, str(n))
    for stream in streams:
        assert stream.response.read().strip() in {b"", b":"}  # to its end, else it raises
        stream.close()
    until(lambda: not others(empty_redis), "no connection is left")
    assert empty_redis.llen("jobs:taken") == 0
    assert done(empty_redis, jobs) + empty_redis.llen("jobs") == 12

    service = start()
    for n, job in enumerate(jobs):
        until(lambda job=job, n=n: result(service, job) == f"{n} words", "all are done")
    service.stop()
    assert empty_redis.llen("jobs") == empty_redis.llen("jobs:taken") == 0

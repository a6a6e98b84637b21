"""A chat: rooms that remember, with a WebSocket for each who is there, over any number of processes.

Run it with `python aiohttp_service.py --port 8000`; REDIS_URL says where Redis is.
"""

import argparse
import asyncio
import json
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

from aiohttp import WSCloseCode, WSMsgType, web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiopool import PoolTimeout, RedisPool, TooManyWaiters
from aiopool.integrations.aiohttp import POOL, cleanup_ctx, unavailable

logger = logging.getLogger(__name__)

REMEMBERED = 1000  # messages of a room, about
SHOWN = 20  # of them to who comes in
BEHIND = 100  # so many messages may a WebSocket be behind

# In one step, so that messages are told in the order in which they are remembered.
SAY = f"""
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', {REMEMBERED}, '*', 'name', ARGV[1], 'text', ARGV[2])
redis.call('PUBLISH', KEYS[1], cjson.encode({{id=id, name=ARGV[1], text=ARGV[2]}}))
return id
"""

Message = dict[str, str]


def place(message: Message) -> tuple[int, int]:
    """Give the place of a message among all of its room."""
    milliseconds, _, number = message["id"].partition("-")
    return int(milliseconds), int(number)


def parsed(data: str) -> Message | None:
    """Give a message that was published; nothing, if it is none of the chat's."""
    try:
        message: Message = json.loads(data)
        place(message)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return message


class Listener:
    """Somebody in a room, and what they have yet to be sent, or why they are to go."""

    def __init__(self) -> None:
        self._news: asyncio.Queue[Message | WSCloseCode] = asyncio.Queue(BEHIND)

    def tell(self, message: Message) -> None:
        """Leave a message to be sent."""
        if self._news.full():
            self.dismiss(WSCloseCode.TRY_AGAIN_LATER)
        else:
            self._news.put_nowait(message)

    def dismiss(self, why: WSCloseCode) -> None:
        """Leave nothing to be sent, but the end."""
        while not self._news.empty():
            self._news.get_nowait()
        self._news.put_nowait(why)

    async def send(self, socket: web.WebSocketResponse, history: list[Message]) -> None:
        """Send what was said before, and what is said from now on, each message once."""
        last = (0, 0)
        with suppress(ConnectionResetError):  # gone, which who reads from the socket sees, too
            for message in history:
                await socket.send_json(message)
                last = place(message)
            while not isinstance(news := await self._news.get(), WSCloseCode):
                if place(news) > last:
                    await socket.send_json(news)
                    last = place(news)
            await socket.close(code=news)


class Chat:
    """The rooms, as far as this process has somebody in them."""

    def __init__(self, pool: RedisPool) -> None:
        self._redis = pool.client()
        # It keeps a connection for as long as the service runs, and shall never take another.
        self._ear = Redis(connection_pool=pool.view(limit=1, name="chat"))
        self._say = self._redis.register_script(SAY)
        self._rooms: defaultdict[str, set[Listener]] = defaultdict(set)

    def listeners(self) -> list[Listener]:
        """Give all who are there, in whichever room."""
        return [listener for room in self._rooms.values() for listener in room]

    @contextmanager
    def listener(self, room: str) -> Iterator[Listener]:
        """Have somebody in a room who is told what is said there."""
        listener = Listener()
        self._rooms[room].add(listener)
        try:
            yield listener
        finally:
            self._rooms[room].remove(listener)
            if not self._rooms[room]:
                del self._rooms[room]

    async def say(self, room: str, name: str, text: str) -> str:
        """Say something in a room, to all who are there in any process; gives the message's id."""
        return str(await self._say(keys=[f"room:{room}"], args=[name, text]))

    async def history(self, room: str) -> list[Message]:
        """Give what was said last, the oldest first."""
        newest = await self._redis.xrevrange(f"room:{room}", count=SHOWN)
        return [{**said, "id": number} for number, said in reversed(newest)]

    async def hear(self) -> None:
        """Pass on what is said, by one subscription for all who listen; never ends."""
        while True:
            try:
                async with self._ear.pubsub() as pubsub:
                    await pubsub.psubscribe("room:*")
                    async for heard in pubsub.listen():
                        await self._pass_on(heard)
                        await asyncio.sleep(0)  # for listeners to send it, if many come at once
            except Exception:
                logger.exception("nothing can be heard; it tries again in a second")
                await asyncio.sleep(1)

    async def _pass_on(self, heard: dict[str, str]) -> None:
        if heard["type"] == "pmessage":
            room = heard["channel"].removeprefix("room:")
            if message := parsed(heard["data"]):
                for listener in self._rooms.get(room, ()):
                    listener.tell(message)
        else:  # It has subscribed, perhaps anew: who knows what was said meanwhile.
            for room in list(self._rooms):
                for message in await self.history(room):
                    for listener in self._rooms.get(room, ()):
                        listener.tell(message)


CHAT = web.AppKey("chat", Chat)


async def chat(app: web.Application) -> AsyncIterator[None]:
    """Hear what is said for as long as the service runs."""
    app[CHAT] = Chat(app[POOL])
    hearing = asyncio.create_task(app[CHAT].hear(), name="chat")
    yield
    # More than once, if need be: redis-py uses wait_for(), which in Python 3.11 can swallow a cancellation.
    while not hearing.done():
        hearing.cancel()
        await asyncio.wait([hearing], timeout=1)


async def dismiss_all(app: web.Application) -> None:
    """Close the WebSockets, for the service ends when no request is under way."""
    for listener in app[CHAT].listeners():
        listener.dismiss(WSCloseCode.GOING_AWAY)


routes = web.RouteTableDef()


@routes.get("/rooms/{room}/messages")
async def read(request: web.Request) -> web.Response:
    """Tell what was said last."""
    return web.json_response(await request.app[CHAT].history(request.match_info["room"]))


@routes.post("/rooms/{room}/messages")
async def write(request: web.Request) -> web.Response:
    """Say something, without being there."""
    try:
        form = await request.post()
    except (LookupError, ValueError):  # no such charset, or not in it
        raise web.HTTPBadRequest from None
    name, text = form.get("name", "somebody"), form.get("text", "")
    if not (isinstance(name, str) and isinstance(text, str)):  # but a file
        raise web.HTTPBadRequest
    number = await request.app[CHAT].say(request.match_info["room"], name, text)
    return web.json_response({"id": number}, status=201)


@routes.get("/rooms/{room}")
async def attend(request: web.Request) -> web.WebSocketResponse:
    """Be there, as `?name=...`: what is sent is said, and what is said is received."""
    room, name, chat = (
        request.match_info["room"],
        request.query.get("name", "somebody"),
        request.app[CHAT],
    )
    with chat.listener(room) as listener:  # first, so that nothing is missed
        history = await chat.history(room)  # before it is a WebSocket, to which nobody can say 503
        socket = web.WebSocketResponse(heartbeat=20, max_msg_size=4096)
        await socket.prepare(request)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.send(socket, history))
            with suppress(ConnectionResetError):  # gone, before it could be told of an error
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        try:
                            await chat.say(room, name, message.data)
                        except (PoolTimeout, TooManyWaiters):
                            await socket.send_json({"error": "busy: this was not said"})
                        except RedisError:
                            await socket.send_json({"error": "this may have been said, or not"})
            listener.dismiss(WSCloseCode.OK)
    return socket


@routes.get("/health")
async def health(request: web.Request) -> web.Response:
    """Tell how many are there, and what the pool is doing for them."""
    stats = request.app[POOL].stats()
    there = len(request.app[CHAT].listeners())
    return web.json_response({"listeners": there, "size": stats.size, "lent": stats.lent})


def make_app(url: str) -> web.Application:
    """Make the service, which does not start if Redis can't be reached: that is `min_size`."""
    pool = RedisPool(
        url,
        max_size=5,
        min_size=1,
        timeout=1.0,
        decode_responses=True,
        encoding_errors="replace",  # whatever others write there, it can be read
    )
    app = web.Application(middlewares=[unavailable])
    app.cleanup_ctx.append(cleanup_ctx(pool, timeout=1))  # it is closed after what comes next
    app.cleanup_ctx.append(chat)
    app.on_shutdown.append(dismiss_all)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    app = make_app(os.environ.get("REDIS_URL", "redis://localhost:6379"))
    web.run_app(app, port=port, shutdown_timeout=1)  # until SIGTERM or Ctrl-C

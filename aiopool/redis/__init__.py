"""The pool at home in redis-py: lends `redis.asyncio` connections and serves its clients."""

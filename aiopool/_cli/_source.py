"""Where `aiopool top` looks: a unix socket, or the page of a service."""

import json
import socket
from base64 import b64encode
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, InvalidURL
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from ._snapshot import printable

_LIMIT = 5.0
_MOST_BYTES = 10_000_000


class NoAnswer(Exception):
    """Nobody answers there, or not with what was asked for."""


def ask(target: str) -> dict[str, Any]:
    """Ask for a snapshot, on a new connection, so that a service may end and come back in between.

    Args:
        target: The path of a unix socket, or the URL of the page: `http://...` or `https://...`. It may
            have a user and a password, for basic authentication.

    Raises:
        NoAnswer: Says why in a line, without a password.

    """
    try:
        answer = _ask_page(target) if "://" in target else _ask_socket(target)
    except HTTPError as error:
        with error:
            reason = f"it answers with status {error.code}"
        if error.code == HTTPStatus.UNAUTHORIZED:
            reason += ": give it a user and a password, as in https://user:password@host/path"
    except URLError as error:
        reason = str(getattr(error.reason, "strerror", None) or error.reason)
    except (ValueError, InvalidURL):  # without the message, which may quote a password
        reason = "that is no URL"
    except (OSError, HTTPException) as error:
        reason = str(getattr(error, "strerror", None) or error) or type(error).__name__
    else:
        with suppress(ValueError, RecursionError):
            if isinstance(told := json.loads(answer), dict):
                return cast("dict[str, Any]", told)
        reason = "what answers there says something else"
    # What answers there may have said something of its own as well, by way of an error of `http.client`.
    msg = printable(f"no answer from {shown(target)}: {' '.join(reason.split())}")
    raise NoAnswer(msg)


def shown(target: str) -> str:
    """Give the target as it may be shown."""
    scheme, separator, rest = target.partition("://")
    if not separator:  # a path
        return target
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _ask_socket(path: str) -> bytes:
    answer = bytearray()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_LIMIT)
        sock.connect(path)
        sock.sendall(b"snapshot\n")
        while not answer.endswith(b"\n") and len(answer) < _MOST_BYTES:
            if not (part := sock.recv(65536)):
                msg = "it hung up"
                raise ConnectionError(msg)
            answer += part
    return bytes(answer)


def _ask_page(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        msg = "only paths of unix sockets and URLs with http:// or https:// are understood"
        raise ConnectionError(msg)
    user, _, place = parts.netloc.rpartition("@")
    path = f"{parts.path.removesuffix('/')}/snapshot.json"
    request = Request(urlunsplit((parts.scheme, place, path, parts.query, "")))  # noqa: S310 - http or https
    if user:
        # Unredirected: it is for this host only.
        word = b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {word}")
    with urlopen(request, timeout=_LIMIT) as answer:  # noqa: S310 - http or https
        body: bytes = answer.read(_MOST_BYTES)
    return body

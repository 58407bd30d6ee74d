"""Streaming chat completions from an OpenAI-compatible HTTP server.

Every request has an end on the steady clock. The answer is read as a stream, and the part received by the end
is kept. Temporary errors (408, 409, 429, 5xx, a broken connection, an answer that is not a chat completion)
are retried while time is left. A server's data are not trusted: their length and types are checked, and error
messages quote them.
"""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
import random
import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.section import MALFORMED, CheckpointError

log = logging.getLogger(__name__)

#: Maximum number of tries. The wait before the second is FIRST_WAIT seconds, and doubles from then on. Each
#: is multiplied by a random factor from 0.5 to 1.5, so that clients do not retry together.
TRIES, FIRST_WAIT = 4, 0.1
#: Maximum seconds for a connection, and for the list of models.
CONNECT, LISTING = 3.0, 5.0
#: Maximum bytes read of an answer.
LONGEST = 1 << 20
#: The score of a token without a probability from the server.
UNSCORED = 0.5
#: The environment variable with the server's key.
KEY = "OPENAI_API_KEY"


class ServerError(OSError):
    """The server cannot be used, for now or at all; the message quotes its response."""

    status = 0  #: the HTTP status, 0 without a response


class _Temporary(ServerError):
    """A temporary error. Retry it, after ``after`` seconds if the server sent a Retry-After."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Unfinished(TimeoutError):
    """The response began, but the time was over before the first token."""


class Rejected(ServerError):
    """The server rejects the request as invalid (400 or 422)."""


@dataclass
class Reply:
    """The answer to one request, as far as it was received."""

    pieces: list[str] = field(default_factory=list)  #: of the text; one token each where they are scored
    probabilities: list[float] = field(default_factory=list)  #: of each piece; UNSCORED where missing
    scored: bool = False  #: whether the server gave probabilities
    whole: bool = False  #: the model ended it, not the deadline or the token limit
    ended: bool = False  #: the server sent a finish_reason; some send nothing after it
    tokens: int = 0  #: the server's count, else the number of pieces
    first: float = 0.0  #: seconds to the first piece
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Client:
    """Requests to one server. Thread-safe; each thread has its own connection."""

    def __init__(self, url: str) -> None:
        """``url`` is like ``http://127.0.0.1:8000/v1``. Raises CheckpointError for a bad address or key."""
        checkpoints.served(url)
        self.url = url
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise CheckpointError(f"{url!r} is not a server's address: {error}") from None
        if not self._host or parts.query:
            raise CheckpointError(f"{url!r} is not a server's address such as http://127.0.0.1:8000/v1")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/") or "/v1"
        self._kept = threading.local()
        #: The socket of each thread, by thread id: http.client passes it on to the response.
        self._sockets: dict[int, socket.socket] = {}
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if key := os.environ.get(KEY, "").strip():
            if not re.fullmatch(r"[!-~]+", key):  # http.client would quote the key in its error
                raise CheckpointError(
                    f"the key in the environment variable {KEY} has a space, a line break or another "
                    "invalid character; set it again"
                )
            self._headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[str]:
        """The models that the server lists. Some servers list none, or not the one they serve.

        Raises ServerError where the server cannot be reached, and TimeoutError.
        """
        try:
            said = self._json("GET", "/models", time.monotonic() + LISTING)
        except ServerError as error:
            if not error.status:
                raise
            log.warning("%s", error)
            return []
        listed = said.get("data") if isinstance(said, dict) else None
        listed = listed if isinstance(listed, list) else []
        return [m["id"] for m in listed if isinstance(m, dict) and isinstance(m.get("id"), str)]

    def ask(self, body: dict[str, Any], end: float) -> Reply:
        """The streamed answer to a chat completion, as far as received by ``end`` (steady clock).

        Raises ServerError, Rejected, and TimeoutError without a token (Unfinished after a response header).
        """
        started, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                return self._stream(body, end, started)
            except _Temporary as error:
                pause = max(FIRST_WAIT * 2 ** (tries - 1) * random.uniform(0.5, 1.5), error.after)
                if tries >= TRIES or time.monotonic() + pause >= end:
                    raise ServerError(f"{error} (after {tries} tries)") from None
                time.sleep(pause)

    def cut(self) -> None:
        """Close all connections, which ends the threads that wait in them."""
        for connected in list(self._sockets.values()):
            with suppress(OSError):  # already closed
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    # --- one request --------------------------------------------------------------------------------

    def _json(self, method: str, path: str, end: float) -> Any:
        response = self._send(method, path, None, end)
        data = b""
        while piece := self._read(response, end):
            data += piece
            if len(data) > LONGEST:
                raise ServerError(f"{self.url}{path} sent more than {LONGEST} bytes")
        return self._parsed(data, path)

    def _send(self, method: str, path: str, body: bytes | None, end: float) -> http.client.HTTPResponse:
        """Send a request; returns the response after its header and status are checked."""
        while True:
            connection, kept = self._connection(end)
            try:
                connection.request(method, self._path + path, body, self._headers)
                response = connection.getresponse()
            except TimeoutError:
                self._drop()
                raise TimeoutError(f"{self.url} did not answer in time") from None
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                if kept:  # the server closed it meanwhile; open a new one
                    continue
                raise self._unreachable(error) from None
            self._check(response, path, end)
            return response

    def _check(self, response: http.client.HTTPResponse, path: str, end: float) -> None:
        if response.status == 200:
            return
        try:
            said = _quoted(self._read(response, end))
        except OSError:
            said = ""
        self._drop()
        message = f"{self.url}{path} answered {response.status} {response.reason}{said}"
        if response.status in (401, 403):
            message += f"; set its key in the environment variable {KEY}"
        error = ServerError(message)
        if response.status in (400, 422):
            error = Rejected(message)
        elif response.status in (408, 409, 429) or response.status >= 500:
            error = _Temporary(message, _seconds(response.getheader("Retry-After")))
        error.status = response.status
        raise error

    def _stream(self, body: dict[str, Any], end: float, started: float) -> Reply:
        response = self._send("POST", "/chat/completions", json.dumps(body).encode(), end)
        reply, buffer, size = Reply(), b"", 0
        events = "event-stream" in (response.getheader("Content-Type") or "")
        done = False
        while not done:
            try:
                data = self._read(response, end)
            except TimeoutError as error:
                self._drop()
                if not reply.pieces:
                    raise Unfinished(str(error)) from None
                break
            size += len(data)
            if size > LONGEST:
                self._drop()
                raise ServerError(f"{self.url} sent more than {LONGEST} bytes")
            buffer += data
            if events:
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    done = self._event(line, reply, started) or done
            if not data:
                if events and not (done or reply.ended):
                    self._drop()
                    raise _Temporary(f"{self.url} ended its answer too early")
                done = True
        if not events:
            self._take(self._parsed(buffer, "/chat/completions"), reply, started)
        elif done and response.length != 0:
            self._drain(response, end)
        reply.tokens = reply.tokens or len(reply.pieces)
        reply.seconds = time.monotonic() - started
        return reply

    def _drain(self, response: http.client.HTTPResponse, end: float) -> None:
        """Read the response to its end, so that the connection can be reused."""
        try:
            if self._read(response, end):
                self._drop()
        except OSError:
            self._drop()

    def _event(self, line: bytes, reply: Reply, started: float) -> bool:
        """Process one line of a stream. Returns whether it was the last."""
        name, _, data = line.strip().partition(b":")
        if name != b"data":
            return False
        if data.strip() == b"[DONE]":
            return True
        self._take(self._parsed(data, "/chat/completions"), reply, started)
        return False

    def _take(self, said: Any, reply: Reply, started: float) -> None:
        """Add one message to a reply."""
        try:
            if error := said.get("error"):
                self._drop()
                raise _Temporary(f"{self.url} sent an error in its answer: {json.dumps(error)[:200]}")
            tokens = int((said.get("usage") or {}).get("completion_tokens") or 0)
            reply.tokens = max(min(tokens, LONGEST), reply.tokens)
            for choice in said["choices"][:1]:
                content = (choice.get("delta") or choice.get("message") or {}).get("content") or ""
                told = (choice.get("logprobs") or {}).get("content") or []
                pieces = [str(token["token"]) for token in told]
                if pieces and "".join(pieces) == content:
                    reply.pieces += pieces
                    reply.probabilities += [_probability(token["logprob"]) for token in told]
                    reply.scored = True
                elif content:  # no probabilities, or a character split into several tokens
                    reply.pieces.append(str(content))
                    reply.probabilities.append(UNSCORED)
                if content and not reply.first:
                    reply.first = time.monotonic() - started
                reply.ended |= choice.get("finish_reason") is not None
                reply.whole |= choice.get("finish_reason") == "stop"
        except MALFORMED as error:
            self._drop()
            raise _Temporary(
                f"{self.url} sent an answer that is not a chat completion ({type(error).__name__}: {error}): "
                f"{json.dumps(said)[:200]}"
            ) from None

    def _parsed(self, data: bytes, path: str) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            self._drop()
            page = data.lstrip()[:1] == b"<"
            what = "a web page instead of JSON" if page else "data that are not JSON"
            raise _Temporary(f"{self.url}{path} sent {what}{_quoted(data)}") from None

    # --- connections --------------------------------------------------------------------------------

    def _connection(self, end: float) -> tuple[http.client.HTTPConnection, bool]:
        """The connection of this thread, and whether it is a reused one.

        Raises _Temporary where the connection fails, and TimeoutError at ``end``.
        """
        connection: http.client.HTTPConnection | None = getattr(self._kept, "connection", None)
        if connection is None:
            if self._tls:
                connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls)
            else:
                connection = http.client.HTTPConnection(self._host, self._port)
            self._kept.connection = connection
        kept = connection.sock is not None
        if not kept:
            connection.timeout = min(CONNECT, self._left(end))
            try:
                connection.connect()
            except (OSError, UnicodeError) as error:  # also TimeoutError: nothing listens
                self._drop()
                raise self._unreachable(error) from None
            self._sockets[threading.get_ident()] = connection.sock
        self._limit(end)
        return connection, kept

    def _unreachable(self, error: Exception) -> _Temporary:
        return _Temporary(f"{self.url} cannot be reached: {type(error).__name__}: {error}")

    def _limit(self, end: float) -> None:
        left = self._left(end)
        connected = self._sockets[threading.get_ident()]
        if connected.fileno() >= 0:
            connected.settimeout(left)

    def _left(self, end: float) -> float:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{self.url} did not answer in time")
        return left

    def _read(self, response: http.client.HTTPResponse, end: float) -> bytes:
        """The bytes received since the last call; empty at the end. Raises TimeoutError and _Temporary."""
        try:
            self._limit(end)
            return response.read1(1 << 16)
        except TimeoutError:
            raise TimeoutError(f"{self.url} did not continue in time") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._drop()
            raise _Temporary(f"{self.url} closed the connection: {type(error).__name__}: {error}") from None

    def _drop(self) -> None:
        """Close the connection, upon which the server stops the request."""
        if kept := getattr(self._kept, "connection", None):
            kept.close()
        self._kept.connection = None


def _probability(logprob: object) -> float:
    """The probability of a token, limited to 0 to 1."""
    value = float(logprob)  # type: ignore[arg-type]
    return math.exp(min(value, 0.0)) if not math.isnan(value) else 0.0


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header; 0 where it is missing or a date."""
    return float(retry_after) if retry_after and re.fullmatch(r"\d{1,6}(\.\d+)?", retry_after) else 0.0


def _quoted(data: bytes) -> str:
    """The beginning of an answer on one line, for an error message."""
    said = " ".join(data[:400].decode(errors="replace").split())[:200]
    return f": {said}" if said else ""

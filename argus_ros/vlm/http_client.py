"""Streaming chat completions from an OpenAI-compatible HTTP server.

Every request has an end on the steady clock: an answer is read as it streams in, and what is there at the
end is kept. Errors that may pass (408, 409, 429, 5xx, a broken connection, an answer that is no chat
completion) are tried again while time is left. Nothing that a server says is trusted: it is read up to a
length and by type, and errors quote it.
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

#: A request is sent at most this many times. The pause before the second is FIRST_WAIT seconds and doubles
#: from then on. Each is drawn from half to one and a half times that, so that clients do not return at once.
TRIES, FIRST_WAIT = 4, 0.1
#: Most seconds for a connection, and for the list of models.
CONNECT, LISTING = 3.0, 5.0
#: Most bytes that are read of an answer.
LONGEST = 1 << 20
#: The score of a token where the server gives no probability.
UNSCORED = 0.5
#: The environment variable with the server's key.
KEY = "OPENAI_API_KEY"


class ServerError(OSError):
    """The server cannot be used, or cannot be used now; the message quotes what it said."""

    status = 0  #: the HTTP status, where it answered with one


class _Passing(ServerError):
    """An error that may pass: worth another try, ``after`` seconds later where the server gives that."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Unfinished(TimeoutError):
    """The server began its response, and the time was over before the first token."""


class Rejected(ServerError):
    """The server rejects the request as it is (400 or 422)."""


@dataclass
class Reply:
    """The answer to one request, as far as it was read."""

    pieces: list[str] = field(default_factory=list)  #: of the text; one token each where it is scored
    probabilities: list[float] = field(default_factory=list)  #: of each piece; UNSCORED where not given
    scored: bool = False  #: the server gave some of them
    whole: bool = False  #: the model ended it, rather than the deadline or the limit of tokens
    ended: bool = False  #: the server gave a finish_reason; some send nothing after it
    tokens: int = 0  #: as the server counts them, else the number of pieces
    first: float = 0.0  #: seconds to the first piece
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Client:
    """Requests to one server. Several threads may call it; each has a connection of its own."""

    def __init__(self, url: str) -> None:
        """``url`` is like ``http://127.0.0.1:8000/v1``. Raises CheckpointError for a bad address or key."""
        checkpoints.served(url)
        self.url = url
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise CheckpointError(f"{url!r} is no server's address: {error}") from None
        if not self._host or parts.query:
            raise CheckpointError(f"{url!r} is no server's address such as http://127.0.0.1:8000/v1")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/") or "/v1"
        self._kept = threading.local()
        #: The socket of each thread, by the thread's identity: http.client hands it over to the response.
        self._sockets: dict[int, socket.socket] = {}
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if key := os.environ.get(KEY, "").strip():
            if not re.fullmatch(r"[!-~]+", key):  # http.client would quote it in its error
                raise CheckpointError(
                    f"the key in the environment variable {KEY} has a space, a line break or another "
                    "character in it that no key has; set it again"
                )
            self._headers["Authorization"] = f"Bearer {key}"

    def models(self) -> list[str]:
        """The models that the server lists. Some servers list none, or not the one that they serve.

        Raises ServerError where it cannot be reached, and TimeoutError.
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
        """The streamed answer to a chat completion, as far as it came by ``end`` (steady clock).

        Raises ServerError, Rejected, and TimeoutError where no token came (Unfinished after a header).
        """
        started, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                return self._stream(body, end, started)
            except _Passing as error:
                pause = max(FIRST_WAIT * 2 ** (tries - 1) * random.uniform(0.5, 1.5), error.after)
                if tries >= TRIES or time.monotonic() + pause >= end:
                    raise ServerError(f"{error} (after {tries} tries)") from None
                time.sleep(pause)

    def cut(self) -> None:
        """Break off all connections, so that threads that wait in them end."""
        for connected in list(self._sockets.values()):
            with suppress(OSError):  # it was closed already
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    # --- one request --------------------------------------------------------------------------------

    def _json(self, method: str, path: str, end: float) -> Any:
        response = self._send(method, path, None, end)
        data = b""
        while piece := self._read(response, end):
            data += piece
            if len(data) > LONGEST:
                raise ServerError(f"{self.url}{path} says more than {LONGEST} bytes")
        return self._parsed(data, path)

    def _send(self, method: str, path: str, body: bytes | None, end: float) -> http.client.HTTPResponse:
        """Send a request; the response with its header read and its status checked."""
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
                if kept:  # the server closed it in the meantime; the next connection is new
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
        message = f"{self.url}{path} answers {response.status} {response.reason}{said}"
        if response.status in (401, 403):
            message += f"; its key goes into the environment variable {KEY}"
        error = ServerError(message)
        if response.status in (400, 422):
            error = Rejected(message)
        elif response.status in (408, 409, 429) or response.status >= 500:
            error = _Passing(message, _seconds(response.getheader("Retry-After")))
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
                raise ServerError(f"{self.url} answers with more than {LONGEST} bytes")
            buffer += data
            if events:
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    done = self._event(line, reply, started) or done
            if not data:
                if events and not (done or reply.ended):
                    self._drop()
                    raise _Passing(f"{self.url} ended its answer in the middle")
                done = True
        if not events:
            self._take(self._parsed(buffer, "/chat/completions"), reply, started)
        elif done and response.length != 0:
            self._drain(response, end)
        reply.tokens = reply.tokens or len(reply.pieces)
        reply.seconds = time.monotonic() - started
        return reply

    def _drain(self, response: http.client.HTTPResponse, end: float) -> None:
        """Read to the end of the response, so that the connection can be used again."""
        try:
            if self._read(response, end):
                self._drop()
        except OSError:
            self._drop()

    def _event(self, line: bytes, reply: Reply, started: float) -> bool:
        """Take one line of a stream. Returns whether it was the last."""
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
                raise _Passing(f"{self.url} says in its answer: {json.dumps(error)[:200]}")
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
                elif content:  # no probabilities, or tokens that are parts of one character
                    reply.pieces.append(str(content))
                    reply.probabilities.append(UNSCORED)
                if content and not reply.first:
                    reply.first = time.monotonic() - started
                reply.ended |= choice.get("finish_reason") is not None
                reply.whole |= choice.get("finish_reason") == "stop"
        except MALFORMED as error:
            self._drop()
            raise _Passing(
                f"{self.url} answers with what is no chat completion ({type(error).__name__}: {error}): "
                f"{json.dumps(said)[:200]}"
            ) from None

    def _parsed(self, data: bytes, path: str) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            self._drop()
            page = data.lstrip()[:1] == b"<"
            what = "a web page and not JSON" if page else "what is no JSON"
            raise _Passing(f"{self.url}{path} answers with {what}{_quoted(data)}") from None

    # --- connections --------------------------------------------------------------------------------

    def _connection(self, end: float) -> tuple[http.client.HTTPConnection, bool]:
        """The connection of this thread, and whether it was open before.

        Raises _Passing where none can be made, and TimeoutError at ``end``.
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
            except (OSError, UnicodeError) as error:  # also TimeoutError: nothing listens there
                self._drop()
                raise self._unreachable(error) from None
            self._sockets[threading.get_ident()] = connection.sock
        self._limit(end)
        return connection, kept

    def _unreachable(self, error: Exception) -> _Passing:
        return _Passing(f"{self.url} cannot be reached: {type(error).__name__}: {error}")

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
        """The bytes that came since the last call; empty at the end. Raises TimeoutError and _Passing."""
        try:
            self._limit(end)
            return response.read1(1 << 16)
        except TimeoutError:
            raise TimeoutError(f"{self.url} did not go on in time") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._drop()
            raise _Passing(f"{self.url} broke off: {type(error).__name__}: {error}") from None

    def _drop(self) -> None:
        """Close the connection; a server that still works on the request then stops."""
        if kept := getattr(self._kept, "connection", None):
            kept.close()
        self._kept.connection = None


def _probability(logprob: object) -> float:
    """The probability of a token, within 0 to 1 whatever the server says."""
    value = float(logprob)  # type: ignore[arg-type]
    return math.exp(min(value, 0.0)) if not math.isnan(value) else 0.0


def _seconds(retry_after: str | None) -> float:
    """The seconds of a Retry-After header; 0 where it is missing or a date."""
    return float(retry_after) if retry_after and re.fullmatch(r"\d{1,6}(\.\d+)?", retry_after) else 0.0


def _quoted(data: bytes) -> str:
    """The beginning of an answer on one line, for an error."""
    said = " ".join(data[:400].decode(errors="replace").split())[:200]
    return f": {said}" if said else ""

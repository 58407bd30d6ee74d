"""A model behind an OpenAI-compatible HTTP server (vLLM, SGLang, llama.cpp ...): backend ``openai``.

It stands behind the same worker as an engine of our own. Frames go out as JPEG within a budget of pixels,
several at a time, each in a thread of its own; answers are read as they stream in, so that the deadline cuts
one off and what is there is kept. What goes wrong in passing (429, 5xx, a connection that breaks) is tried
again while time is left. Nothing that a server says is trusted: it is read up to a length and by type, and
errors quote it.
"""

from __future__ import annotations

import base64
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
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.protocol import EngineConfig, FrameRequest, ModelInfo
from argus_ros.core.section import MALFORMED, CheckpointError
from argus_ros.core.types import STRUCTURED_TASKS, Answer, StageTimes, Status, Task
from argus_ros.vlm import answers, formats, prompts
from argus_ros.vlm.engines import check_whole
from argus_ros.vlm.formats.reading import Question, Sizes
from argus_ros.vlm.prompts import TaskError

log = logging.getLogger(__name__)

#: Most tokens of an answer in free text, and of one with boxes, unless a request says otherwise.
MAX_NEW_TOKENS, MAX_BOX_TOKENS = 64, 512
#: Times that a request is sent at most, and seconds before the second; doubling, half as long to half as
#: long again, so that many clients do not come back at once.
TRIES, FIRST_WAIT = 4, 0.1
#: Seconds that connecting may take, and that are waited for a server that is asked for its models.
CONNECT, LISTING = 3.0, 5.0
#: Seconds that the first requests may take, while the server itself becomes warm.
WARMING = 60.0
#: Seconds after its end that a request is waited for, before its connection is broken off.
GRACE = 1.0
#: Most bytes of an answer that are read.
LONGEST = 1 << 20
#: Quality of the JPEG that a frame is sent as.
QUALITY = 90
#: Score of a box where the server tells no probabilities.
UNSCORED = 0.5
#: Sides are multiples of this where boxes are in pixels of what the model sees, which then is what was sent.
GRAIN = 28
#: The key that the server may want.
KEY = "OPENAI_API_KEY"
#: What looks like a token that steers a model.
CONTROL = re.compile(r"<\|[^<>]*\|>|</?[A-Za-z_]+\d*>|\[/?[A-Z_]{3,}\]")
#: What an answer under a schema has to be, and no model says by itself.
PROBE = {
    "type": "object",
    "properties": {"argus": {"const": True}},
    "required": ["argus"],
    "additionalProperties": False,
}


class ServerError(OSError):
    """A server that cannot be used, or not now; says what it said."""

    status = 0  #: of HTTP, where it answered with one


class _Passing(ServerError):
    """Worth another try, after ``after`` seconds where the server says so."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Unfinished(TimeoutError):
    """The server began to answer, and had said nothing yet when the time was over."""


class _Unwanted(ServerError):
    """400 or 422: the server does not want the request as it is."""


@dataclass
class Reply:
    """What came of one request."""

    pieces: list[str] = field(default_factory=list)  #: the text as it came, a token each where it is scored
    probabilities: list[float] = field(default_factory=list)  #: of each piece; UNSCORED where not told
    scored: bool = False  #: some were told
    whole: bool = False  #: the server ended it, and not the deadline or the limit of tokens
    ended: bool = False  #: the server said why it goes no further; some say no more than that
    tokens: int = 0  #: as many as the server says, or pieces
    first: float = 0.0  #: seconds to the first piece
    seconds: float = 0.0

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Client:
    """Requests to one server; its methods may be called from several threads."""

    def __init__(self, url: str) -> None:
        """``url`` as ``http://127.0.0.1:8000/v1``. Raises CheckpointError, also for a key that cannot be."""
        checkpoints.served(url)
        self.url = url
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise CheckpointError(f"{url!r} is no address of a server: {error}") from None
        if not self._host or parts.query:
            raise CheckpointError(f"{url!r} is no address of a server such as http://127.0.0.1:8000/v1")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._path = parts.path.rstrip("/") or "/v1"
        self._kept = threading.local()
        #: That of each thread, by its identity; also while http.client has given it to a response.
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
        """The models that the server lists; some list none, or not the one that they serve.

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
        """The answer to a chat completion, which streams, as far as it came by ``end`` (steady clock).

        Raises ServerError, TimeoutError where nothing came (Unfinished where the header did), and _Unwanted.
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
        """Break all connections off, so that threads which wait for more than a timeout can end."""
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
        """The response, of which the header is there and right."""
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
                if kept:  # and the server has ended it; the next one is new
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
            error = _Unwanted(message)
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
        """Read what follows the last event, which is nothing, so that the connection can be used again."""
        try:
            if self._read(response, end):
                self._drop()
        except OSError:
            self._drop()

    def _event(self, line: bytes, reply: Reply, started: float) -> bool:
        """Take one line of a stream; whether it is the last."""
        name, _, data = line.strip().partition(b":")
        if name != b"data":
            return False
        if data.strip() == b"[DONE]":
            return True
        self._take(self._parsed(data, "/chat/completions"), reply, started)
        return False

    def _take(self, said: Any, reply: Reply, started: float) -> None:
        """Add what a message says to a reply."""
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
                elif content:  # also where tokens hold parts of one letter
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
        """That of this thread, connected, and whether it was kept from before.

        Raises _Passing where there is none to be had, and TimeoutError at ``end``.
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
            except (OSError, UnicodeError) as error:  # TimeoutError, too: nobody is there
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
        """What has come since; empty at the end. Raises TimeoutError and _Passing."""
        try:
            self._limit(end)
            return response.read1(1 << 16)
        except TimeoutError:
            raise TimeoutError(f"{self.url} did not go on in time") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            self._drop()
            raise _Passing(f"{self.url} broke off: {type(error).__name__}: {error}") from None

    def _drop(self) -> None:
        """End the connection; a server that is still busy with the request then stops."""
        if kept := getattr(self._kept, "connection", None):
            kept.close()
        self._kept.connection = None


class ServerEngine:
    """A served model. Raises CheckpointError, or ServerError where the server cannot be reached now."""

    def __init__(self, config: EngineConfig) -> None:
        started = time.monotonic()
        self._config = config
        self.checkpoint = checkpoints.read_for(config)
        self._format = formats.of(self.checkpoint.format)
        url, _, self._model = config.checkpoint.partition("#")
        self._client = Client(url)
        there = self._client.models()
        if not self._model and not there:
            raise ServerError(f"{url}/models lists no models: name it, as {url}#MODEL")
        if self._model and there and self._model not in there:
            raise CheckpointError(f"{url} has no model {self._model!r}; it has {', '.join(there)[:500]}")
        if not self._model and len(there) > 1:
            raise CheckpointError(
                f"{url} has several models; say which, as {url}#{there[0]}: {', '.join(there)}"
            )
        self._model = self._model or there[0]
        #: What not every server takes; each goes when the server takes a request without it alone.
        self._extras = {"skip_special_tokens", "logprobs", "response_format"}
        self._pool = ThreadPoolExecutor(config.server_in_flight, "request")
        self.info = ModelInfo(
            name=self._model,
            device=f"server {urlsplit(url).netloc}",
            dtype="unknown",
            tasks=self.checkpoint.tasks,
            classes=(),
            tile=self.checkpoint.tiling.tile,
            max_tiles=1,
            tokens_per_tile=0,
            parameters=0,
            recipes=("camera_batch",) if config.server_in_flight > 1 else (),
            load_seconds=time.monotonic() - started,
            whole_frames=True,
        )

    def warm_up(self) -> None:
        """Ask of a grey picture, and whether schemas and probabilities are to be had; and time it."""
        request = FrameRequest(0, 0, 0, 0, 640, 480, Task("caption"), max_new_tokens=8, frame=(640, 480))
        pixels = np.full((480, 640, 3), 127, np.uint8)
        if self._format.chat and self._schema(Task("detect", ("cone",))) and not self._keeps_to_schemas():
            log.warning(
                "%s does not keep to a JSON schema: answers are read as far as they are valid",
                self._client.url,
            )
        seconds, scored = [], False
        for _ in range(3):
            started = time.monotonic()
            reply, _ = self._put(request, Question("What is this?"), pixels, started + WARMING, scored=True)
            seconds.append(time.monotonic() - started)
            scored = reply.scored or scored
        if set(self.info.tasks) & set(STRUCTURED_TASKS) and not scored:
            log.warning("%s tells no probabilities: every box scores %g", self._client.url, UNSCORED)
        self.info = replace(self.info, frame_seconds=min(seconds), scored=scored)

    def pin(self, memory: np.ndarray) -> None:
        """Nothing goes to a device from here."""

    def check(self, request: FrameRequest, pixels: np.ndarray) -> None:
        """Raise TaskError for a request that cannot be run."""
        check_whole(request, pixels)
        prompts.check(request.task, self.checkpoint)
        for words in (request.task.prompt, *request.task.classes):
            if found := CONTROL.search(words):
                raise TaskError(f"{words!r} has {found[0]!r} in it, which may steer the model; leave it out")

    def stream(
        self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """Answer frames, each with its index as soon as it is done.

        What failed has its error in place of the answer: TaskError, ServerError or TimeoutError.
        """
        running: dict[Future[Answer], int] = {
            self._pool.submit(self._answer, request, np.array(picture)): index
            for index, (request, picture) in enumerate(zip(requests, pixels, strict=True))
        }
        latest = self._latest(requests) + GRACE
        while running:
            done = wait(running, max(latest - time.monotonic(), 0.0), FIRST_COMPLETED).done
            if not done:  # a name that is looked up for long, or a server that says a byte now and then
                self._client.cut()
                for future, index in running.items():
                    future.cancel()
                    yield index, TimeoutError(f"{self._client.url} did not answer in time")
                return
            for future in done:
                index = running.pop(future)
                error = future.exception()
                yield index, error if isinstance(error, Exception) else future.result()

    def _latest(self, requests: Sequence[FrameRequest]) -> float:
        """When the last of them has to be over (steady clock)."""
        rounds = math.ceil(len(requests) / self._config.server_in_flight)
        end = time.monotonic() + rounds * self._timeout
        return max((end if r.deadline is None else min(end, r.deadline) for r in requests), default=end)

    # --- one frame ----------------------------------------------------------------------------------

    @property
    def _timeout(self) -> float:
        return self._config.server_timeout

    def _answer(self, request: FrameRequest, picture: np.ndarray) -> Answer:
        started, latest = time.monotonic(), request.deadline
        if latest is not None and latest <= started:
            raise TaskError(
                f"its deadline passed while it waited for one of {self._config.server_in_flight} requests "
                "(server_in_flight)"
            )
        end = started + self._timeout
        hurried = latest is not None and latest < end
        end = min(end, latest) if latest is not None else end
        answer, begun = Answer(), False
        for question in self._format.questions(request.task):
            try:
                reply, seen = self._put(
                    request, question, picture, end, request.task.name in STRUCTURED_TASKS
                )
            except TimeoutError as error:
                # Only a server that has begun to answer was merely slow; of any other nothing is known,
                # and an empty answer would say that there is nothing to see.
                if not hurried or not (begun or isinstance(error, Unfinished)):
                    raise
                return replace(answer, status=Status.TRUNCATED)
            begun = True
            answer = self._with(answer, request, question, reply, seen)
        most = request.max_detections
        return replace(answer, detections=answer.detections[:most]) if most else answer

    def _with(
        self, answer: Answer, request: FrameRequest, question: Question, reply: Reply, seen: tuple[int, int]
    ) -> Answer:
        """An answer and what came of one more question."""
        found, dropped = answer.detections, answer.dropped
        structured = request.task.name in STRUCTURED_TASKS
        if structured:
            ends = np.cumsum([len(piece) for piece in reply.pieces]).tolist()
            sizes = Sizes(request.width, request.height, *seen)
            more, bad = answers.written(
                self._format, request.task, question, reply.text, ends, reply.probabilities, sizes
            )
            found, dropped = (*found, *(d for d in more if d not in found)), dropped + bad
        times = answer.times
        return Answer(
            detections=found,
            text="" if structured else reply.text.strip(),
            status=answer.status if reply.whole else Status.TRUNCATED,
            times=StageTimes(
                first_token=times.first_token or reply.first,
                prefill=times.prefill + reply.first,
                decode=times.decode + reply.seconds - reply.first,
            ),
            generated_tokens=answer.generated_tokens + reply.tokens,
            decode_passes=answer.decode_passes + max(reply.tokens - 1, 0),
            dropped=dropped,
        )

    def _put(
        self, request: FrameRequest, question: Question, picture: np.ndarray, end: float, scored: bool
    ) -> tuple[Reply, tuple[int, int]]:
        """Ask; what came, and the size of the picture that was sent."""
        grain = GRAIN if self.checkpoint.format in checkpoints.IN_PIXELS else 1
        sent, size = encoded(picture, self._config.server_pixels, grain)
        structured = request.task.name in STRUCTURED_TASKS
        content = [
            {"type": "image_url", "image_url": {"url": sent}},
            {"type": "text", "text": question.text},
        ]
        most = request.max_new_tokens or (MAX_BOX_TOKENS if structured else MAX_NEW_TOKENS)
        extras: dict[str, Any] = {}
        if structured and self.checkpoint.format in checkpoints.SPECIAL_SIGNS:
            extras["skip_special_tokens"] = False
        if scored:
            extras["logprobs"] = True
        if schema := self._schema(request.task):
            extras["response_format"] = _response_format(schema)
        return self._ask(
            {"messages": [{"role": "user", "content": content}], "max_tokens": most}, extras, end
        ), size

    def _ask(self, body: dict[str, Any], extras: dict[str, Any], end: float) -> Reply:
        """With as many of the extras as the server takes. Raises TaskError for a request it does not want."""
        left_out: dict[str, str] = {}  # and what the server said
        always = {"model": self._model, "stream": True, "temperature": 0}
        while True:
            names = [name for name in extras if name in self._extras and name not in left_out]
            try:
                reply = self._client.ask({**always, **body, **{name: extras[name] for name in names}}, end)
            except _Unwanted as error:
                if not names:
                    raise TaskError(str(error)) from None
                left_out[next((name for name in names if name in str(error)), names[-1])] = str(error)
                continue
            for name, said in left_out.items():  # only now is it known that the request itself was good
                log.warning("%s: requests go on without %s", said, name)
                self._extras.discard(name)
            return reply

    def _schema(self, task: Task) -> dict[str, Any] | None:
        """What the answer to a task has to look like, where the format is JSON."""
        return self._format.schema(task) if task.name in STRUCTURED_TASKS else None

    def _keeps_to_schemas(self) -> bool:
        """Whether the server holds answers to a schema; some take it and do nothing."""
        body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 32}
        reply = self._ask(body, {"response_format": _response_format(PROBE)}, time.monotonic() + WARMING)
        said = "".join(reply.text.split())
        return bool(said) and '{"argus":true}'.startswith(said)  # it may have been cut off


def encoded(picture: np.ndarray, most: int, grain: int = 1) -> tuple[str, tuple[int, int]]:
    """RGB (height, width, 3) as a JPEG in a data URL, and its width and height.

    Scaled down to ``most`` pixels, to sides that are multiples of ``grain``.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, math.sqrt(most / (width * height)))
    wide, high = (
        max(math.floor(side * scale / grain) if scale < 1 else round(side / grain), 1) * grain
        for side in (width, height)
    )
    if (wide, high) != (width, height):
        picture = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_AREA)
    parameters = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), parameters)
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}", (wide, high)


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _probability(logprob: object) -> float:
    """Of a token; whatever a server says, a number from 0 to 1."""
    value = float(logprob)  # type: ignore[arg-type]
    return math.exp(min(value, 0.0)) if not math.isnan(value) else 0.0


def _seconds(retry_after: str | None) -> float:
    """Of the header; 0 where there is none, or a date."""
    return float(retry_after) if retry_after and re.fullmatch(r"\d{1,6}(\.\d+)?", retry_after) else 0.0


def _quoted(data: bytes) -> str:
    """The beginning of what a server said, on one line."""
    said = " ".join(data[:400].decode(errors="replace").split())[:200]
    return f": {said}" if said else ""

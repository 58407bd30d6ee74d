"""Backend ``openai``: a model behind an OpenAI-compatible HTTP server (vLLM, SGLang, llama.cpp ...).

It stands behind the same worker as the engines that run a model themselves. Frames are sent as JPEG within a
budget of pixels, several at a time, each in a thread of its own (``vlm/engine/http_client.py`` makes the
requests).
"""

from __future__ import annotations

import base64
import logging
import math
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.protocol import EngineConfig, FrameRequest, ModelInfo
from argus_ros.core.section import CheckpointError
from argus_ros.core.types import STRUCTURED_TASKS, Answer, StageTimes, Status, Task
from argus_ros.vlm import formats
from argus_ros.vlm.engine.engines import check_whole
from argus_ros.vlm.engine.http_client import UNSCORED, Client, Rejected, Reply, ServerError, Unfinished
from argus_ros.vlm.formats import answers, prompts
from argus_ros.vlm.formats.prompts import TaskError
from argus_ros.vlm.formats.reading import Question, Sizes

log = logging.getLogger(__name__)

#: Maximum tokens of an answer in free text, and of one with boxes, where a request gives no limit.
MAX_NEW_TOKENS, MAX_BOX_TOKENS = 64, 512
#: Maximum seconds of the first requests, during the server's own warm-up.
WARMING = 60.0
#: Seconds after a request's deadline at which its connection is closed.
GRACE = 1.0
#: JPEG quality of the frames that are sent.
QUALITY = 90
#: Sides are multiples of this where boxes are in pixels of the input, so that the server need not resize.
GRAIN = 28
#: Text that looks like a control token of a model.
CONTROL = re.compile(r"<\|[^<>]*\|>|</?[A-Za-z_]+\d*>|\[/?[A-Z_]{3,}\]")
#: A schema whose answer no model gives without it: a test of whether the server applies schemas.
PROBE = {
    "type": "object",
    "properties": {"argus": {"const": True}},
    "required": ["argus"],
    "additionalProperties": False,
}


class ServerEngine:
    """A model behind a server. Raises CheckpointError, and ServerError where it cannot be reached now."""

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
        #: Fields that not every server accepts; one is removed once a request without it was accepted.
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
        """Time questions on a grey picture; find out whether it supports schemas and probabilities."""
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
        """No memory is pinned: nothing is copied to a device here."""

    def check(self, request: FrameRequest, pixels: np.ndarray) -> None:
        """Raise TaskError for a request that this server cannot answer."""
        check_whole(request, pixels)
        prompts.check(request.task, self.checkpoint)
        for words in (request.task.prompt, *request.task.classes):
            if found := CONTROL.search(words):
                raise TaskError(f"{words!r} has {found[0]!r} in it, which may steer the model; leave it out")

    def stream(
        self, requests: Sequence[FrameRequest], pixels: Sequence[np.ndarray]
    ) -> Iterator[tuple[int, Answer | Exception]]:
        """Yield the index and the answer of each frame, in the order in which they are done.

        A frame that failed has its error in place of the answer: TaskError, ServerError or TimeoutError.
        """
        running: dict[Future[Answer], int] = {
            self._pool.submit(self._answer, request, np.array(picture)): index
            for index, (request, picture) in enumerate(zip(requests, pixels, strict=True))
        }
        latest = self._latest(requests) + GRACE
        while running:
            done = wait(running, max(latest - time.monotonic(), 0.0), FIRST_COMPLETED).done
            if not done:  # a slow name look-up, or a server that sends a byte now and then
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
        """The deadline of the last request (steady clock)."""
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
                # A server that began to answer was slow. Of one that did not, nothing is known, and an
                # empty answer would say that the scene is empty.
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
        """The answer with the reply to one more question added."""
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
        """Ask one question. Returns the reply, and width and height of the picture that was sent."""
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
        """Ask with the extra fields that the server accepts. Raises TaskError for a rejected request."""
        left_out: dict[str, str] = {}  # fields, and why the server rejected them
        always = {"model": self._model, "stream": True, "temperature": 0}
        while True:
            names = [name for name in extras if name in self._extras and name not in left_out]
            try:
                reply = self._client.ask({**always, **body, **{name: extras[name] for name in names}}, end)
            except Rejected as error:
                if not names:
                    raise TaskError(str(error)) from None
                left_out[next((name for name in names if name in str(error)), names[-1])] = str(error)
                continue
            for name, said in left_out.items():  # the request itself was good, as this reply shows
                log.warning("%s: requests go on without %s", said, name)
                self._extras.discard(name)
            return reply

    def _schema(self, task: Task) -> dict[str, Any] | None:
        """The JSON schema of the answer to a task, where the format is JSON."""
        return self._format.schema(task) if task.name in STRUCTURED_TASKS else None

    def _keeps_to_schemas(self) -> bool:
        """Whether the server applies a schema to its answers; some accept one and ignore it."""
        body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 32}
        reply = self._ask(body, {"response_format": _response_format(PROBE)}, time.monotonic() + WARMING)
        said = "".join(reply.text.split())
        return bool(said) and '{"argus":true}'.startswith(said)  # the limit of tokens may have cut it off


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

"""Backend ``openai`` against real HTTP servers: one that does what a test wants, in a process of its own, and
one with a real model (vLLM, or any other, where ``ARGUS_TEST_SERVER`` says where it is)."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import CheckpointError
from argus_ros.core.engine_client import EngineClient, EngineState
from argus_ros.core.image import Image
from argus_ros.core.offline import Offline
from argus_ros.core.protocol import Arena, EngineConfig, FrameRequest, why_unusable
from argus_ros.core.types import Answer, Status, Task
from argus_ros.tools.workload import photograph
from argus_ros.vlm import engines, server, worker
from argus_ros.vlm.prompts import TaskError
from argus_ros.vlm.server import ServerEngine, ServerError, encoded

SIZE = (120, 90)
DETECT = Task("detect", ("cone", "ball"))
BOXES = '[{"bbox_2d": [100, 200, 300, 400], "label": "cone"}, {"bbox_2d": [1, 2], "label": "ball"}]'


class Fault:
    """A server in a process of its own, whose next answers are told to it."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.url = process, f"http://127.0.0.1:{port}/v1"
        self._port = port

    def next(self, *plans: dict[str, Any]) -> None:
        """What the next chat completions are answered with; the last one from then on."""
        self._call("POST", "/plan", json.dumps(plans).encode())

    def seen(self) -> list[dict[str, Any]]:
        """The bodies of the chat completions since the last call."""
        return json.loads(self._call("GET", "/seen"))

    def _call(self, method: str, path: str, body: bytes | None = None) -> bytes:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        connection.request(method, path, body)
        return connection.getresponse().read()


@contextmanager
def fault_server(port: int = 0) -> Iterator[Fault]:
    command = [sys.executable, str(Path(__file__).with_name("fault_server.py")), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Fault(process, int(process.stdout.readline()))
        finally:
            process.kill()


@pytest.fixture
def fault() -> Iterator[Fault]:
    with fault_server() as started:
        yield started


def config(url: str, **more: Any) -> EngineConfig:
    return EngineConfig(
        url, **{"backend": "openai", "answer_format": "qwen3_vl", "server_timeout": 5.0, **more}
    )


def engine_of(fault: Fault, **more: Any) -> ServerEngine:
    engine = engines.load(config(fault.url, **more))
    assert isinstance(engine, ServerEngine)
    return engine


def request(task: Task = DETECT, **more: Any) -> FrameRequest:
    return FrameRequest(1, 0, 0, 0, *SIZE, task, frame=SIZE, **more)


def run(engine: ServerEngine, task: Task = DETECT, **more: Any) -> Any:
    ((_, answer),) = engine.stream([request(task, **more)], [photograph(SIZE)])
    if isinstance(answer, Exception):
        raise answer
    assert why_unusable(answer, *SIZE) == ""
    return answer


def test_boxes_and_text_come_of_what_it_says(fault: Fault) -> None:
    engine = engine_of(fault)
    fault.next({"text": BOXES, "probability": 0.25})
    answer = run(engine)
    (found,) = answer.detections
    assert (found.label, found.score) == ("cone", pytest.approx(0.25))
    assert (found.x_min, found.y_min, found.x_max, found.y_max) == pytest.approx((12, 18, 36, 36))
    assert answer.dropped == 1
    assert answer.status is Status.OK
    assert answer.times.first_token > 0
    fault.next({"text": "A cone. "})
    assert run(engine, Task("ask", prompt="What is it?")).text == "A cone."
    body = fault.seen()[-1]
    assert body["messages"][0]["content"][1]["text"] == "What is it?"
    assert body["temperature"] == 0


def test_what_is_sent(fault: Fault) -> None:
    engine = engine_of(fault, server_pixels=5000)
    fault.next({"text": "[]"})
    run(engine)
    (body,) = fault.seen()
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    data = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[0] * picture.shape[1] <= 5000
    smaller = cv2.resize(photograph(SIZE), picture.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(picture[..., ::-1].astype(int) - smaller).mean() < 6
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["items"]["properties"]["label"]["enum"] == ["cone", "ball"]
    assert body["logprobs"] is True
    for name in ("text", "internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "lfm2_5_vl"):
        other = engine_of(fault, answer_format=name)
        run(other, DETECT if "detect" in other.info.tasks else Task("caption"))
        sent = fault.seen()[-1]
        assert ("response_format" in sent) == (name in ("qwen2_5_vl", "qwen3_vl", "lfm2_5_vl"))
        assert ("skip_special_tokens" in sent) == (name in ("internvl", "qwen2_vl"))


@pytest.mark.parametrize(("grain", "most"), [(1, 3000), (28, 50_000), (28, 100), (1, 1)])
def test_a_picture_is_scaled_into_its_budget(grain: int, most: int) -> None:
    for size in ((640, 480), (1000, 3), (1, 1)):
        _, (width, height) = encoded(np.zeros((*size[::-1], 3), np.uint8), most, grain)
        assert width % grain == height % grain == 0
        assert width * height <= max(most * 1.2, grain * grain, max(size) * grain)
        assert min(width, height) >= 1


PASSING: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "header": ["Retry-After", "0"], "body": "slow down"},
    "500": {"status": 500, "body": "<html>oops</html>"},
    "503": {"status": 503, "body": ""},
    "a web page": {"body": "<html><body>Welcome to nginx</body></html>", "type": "text/html"},
    "half of the JSON": {"body": '{"choices": [{"message": {"content": "a', "type": "application/json"},
    "another JSON": {"body": '{"choices": [7]}', "type": "application/json"},
    "half of a stream": {
        "body": 'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',
        "type": "text/event-stream",
    },
    "no JSON in a stream": {"body": "data: {a\n\n", "type": "text/event-stream"},
    "an error in a stream": {"body": 'data: {"error": {"message": "gone"}}\n\n', "type": "text/event-stream"},
    "NaN": {"body": 'data: {"choices": NaN}\n\n', "type": "text/event-stream"},
    "infinitely many tokens": {
        "body": 'data: {"choices": [], "usage": {"completion_tokens": 1e999}}\n\n',
        "type": "text/event-stream",
    },
    "a logprob beyond all numbers": {
        "body": 'data: {"choices": [{"delta": {"content": "a"}, "logprobs": {"content": '
        f'[{{"token": "a", "logprob": -{10**400}}}]}}}}]}}\n\n',
        "type": "text/event-stream",
    },
    "a list": {"body": "data: []\n\n", "type": "text/event-stream"},
    "a broken connection": {"close": True},
    "bytes": {"body": "\x00\xff" * 500, "type": "application/json"},
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again(name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    engine = engine_of(fault)
    fault.next(PASSING[name], PASSING[name], {"text": "a cone"})
    assert run(engine, Task("caption")).text == "a cone"
    assert len(fault.seen()) == 3


@pytest.mark.parametrize("name", PASSING)
def test_what_stays_is_an_error_that_quotes_it_and_the_other_frames_are_answered(
    name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_WAIT", 0.01)
    engine = engine_of(fault, server_in_flight=1)
    fault.next({**PASSING[name], "only": "is bad", "else": {"text": "a cone"}})
    requests = [request(Task("ask", prompt=f"What is {word}?")) for word in ("here", "bad", "there")]
    (first, here), (second, error), (third, there) = engine.stream(requests, [photograph(SIZE)] * 3)
    assert (first, second, third) == (0, 1, 2)
    assert isinstance(error, ServerError)
    assert re.match(rf"{re.escape(fault.url)}.* \(after {server.TRIES} tries\)", str(error))
    assert [answer.text for answer in (here, there) if isinstance(answer, Answer)] == ["a cone"] * 2


def test_each_frame_is_told_its_own_error(fault: Fault) -> None:
    engine = engine_of(fault)
    long = {"only": "long", "status": 400, "body": "the prompt is too long", "else": {"text": "a cone"}}
    fault.next({"only": "secret", "status": 401, "body": "no", "else": long})
    arena = Arena(Arena.create_file(), 4, engine.info.slot_bytes)
    requests = [
        replace(request(Task("ask", prompt=f"What is {word}?")), id=number, slot=number)
        for number, word in enumerate(("secret", "here", "long", "there"))
    ]
    told = {answered.id: answered for answered in worker.run(engine, arena, requests)}
    assert re.match(r"ServerError: .*401", told[0].error)
    assert re.match(r".*the prompt is too long", told[2].error)
    assert [told[number].refused for number in range(4)] == [False, False, True, False]
    assert [told[number].answer.text for number in (1, 3)] == ["a cone"] * 2


def stream_of(*messages: dict[str, Any]) -> dict[str, Any]:
    """A plan with the events of a stream, which then ends."""
    end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    body = "".join(f"data: {json.dumps(message)}\n\n" for message in (*messages, end))
    return {"body": f"{body}data: [DONE]\n\n", "type": "text/event-stream"}


def test_scores_keep_their_places_where_a_letter_takes_two_tokens(fault: Fault) -> None:
    pieces = [
        ("[", "[", 1.0),
        *[(piece, piece, 0.8) for piece in ('{"bbox_2d": [100, 200, 300, 400], ', '"label": "c')],
        ("", "\ufffd", 0.8),
        ("ô", "\ufffd", 0.8),
        ('ne"}', 'ne"}', 0.8),
        (", ", ", ", 1.0),
        *[(piece, piece, 0.3) for piece in ('{"bbox_2d": [500, 500, 600, 600], ', '"label": "ball"}')],
        ("]", "]", 1.0),
    ]
    messages = [
        {
            "choices": [
                {
                    "delta": {"content": said},
                    "logprobs": {"content": [{"token": token, "logprob": math.log(probability)}]},
                }
            ]
        }
        for said, token, probability in pieces
    ]
    fault.next(stream_of(*messages))
    cone, ball = run(engine_of(fault), Task("detect", ("cône", "ball"))).detections
    assert cone.score == pytest.approx((0.8**3 * server.UNSCORED) ** 0.25)
    assert ball.score == pytest.approx(0.3)


@pytest.mark.parametrize(("said", "taken"), [(7, 7), (-7, 2), (10**30, server.LONGEST), (None, 2)])
def test_counts_are_taken_as_far_as_they_can_be_and_no_error_is_none(
    said: int | None, taken: int, fault: Fault
) -> None:
    piece = {"choices": [{"delta": {"content": "a "}}], "error": None}
    usage = {"choices": [], "usage": {"completion_tokens": said}, "error": None}
    fault.next(stream_of(piece, piece, usage))
    assert run(engine_of(fault), Task("caption")).generated_tokens == taken
    assert len(fault.seen()) == 1


def test_a_stream_may_end_with_its_last_piece(fault: Fault) -> None:
    """Without ``[DONE]``, as transformers serve ends it."""
    said = {"choices": [{"delta": {"content": "a cone"}, "finish_reason": "stop"}]}
    fault.next({"body": f"data: {json.dumps(said)}\n\n", "type": "text/event-stream"})
    answer = run(engine_of(fault), Task("caption"))
    assert (answer.text, answer.status) == ("a cone", Status.OK)
    assert len(fault.seen()) == 1


def test_too_much_is_not_read(fault: Fault) -> None:
    engine = engine_of(fault)
    fault.next({"text": "word " * 400_000})
    with pytest.raises(ServerError, match="more than"):
        run(engine, Task("caption"))


@pytest.mark.parametrize("plan", [{"hang": True}, {"text": "a b c d e f g h", "pause": 30.0, "after": 0}])
def test_a_server_that_never_answers_is_left_at_the_timeout(plan: dict[str, Any], fault: Fault) -> None:
    engine = engine_of(fault, server_timeout=0.4)
    fault.next(plan)
    with pytest.raises(TimeoutError, match="in time"):
        run(engine, Task("caption"))
    fault.next({"text": "a cone"})
    assert run(engine, Task("caption")).text == "a cone"


def test_a_server_that_says_a_little_now_and_then_is_left_at_the_timeout(fault: Fault) -> None:
    """Each part comes in time, and all of them together do not; what waited for them is free again."""
    engine = engine_of(fault, server_timeout=1.0, server_in_flight=1)
    fault.next({"drip": 80, "text": "late"}, {"text": "a cone"})
    with pytest.raises(TimeoutError, match="did not answer in time"):
        run(engine, Task("caption"))
    assert run(engine, Task("caption")).text == "a cone"


def test_a_name_that_is_looked_up_for_ever_is_left_at_the_timeout(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, found = engine_of(fault, server_timeout=0.2), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(10) and [])
        failures = [error for _, error in engine.stream([request()] * 6, [photograph(SIZE)] * 6)]
        found.set()
    assert [type(error) for error in failures] == [TimeoutError] * 6


def test_a_picture_may_take_longer_to_send_than_connecting_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECT", 0.2)
    said = json.dumps({"choices": [{"message": {"content": "a cone"}, "finish_reason": "stop"}]}).encode()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def serve() -> None:
            accepted, _ = slow.accept()
            time.sleep(0.8)
            with accepted, accepted.makefile("rb") as stream:
                header = b"".join(iter(stream.readline, b"\r\n"))
                stream.read(int(re.findall(rb"Content-Length: (\d+)", header)[0]))
                accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        client = server.Client(f"http://127.0.0.1:{slow.getsockname()[1]}/v1")
        picture = "x" * (32 << 20)  # more than the system takes while nobody reads
        assert client.ask({"picture": picture}, time.monotonic() + 20).text == "a cone"
        thread.join()


def test_the_deadline_cuts_an_answer_off_and_keeps_what_is_there(fault: Fault) -> None:
    engine = engine_of(fault)
    fault.next({"text": BOXES, "pause": 30.0, "after": 8})
    answer = run(engine, deadline=time.monotonic() + 1.0)
    assert answer.status is Status.TRUNCATED
    assert len(answer.detections) == 1
    fault.next({"text": BOXES, "pause": 30.0, "after": 0})
    answer = run(engine, deadline=time.monotonic() + 0.5)
    assert (answer.status, answer.detections) == (Status.TRUNCATED, ())


def test_a_server_that_says_nothing_by_the_deadline_is_not_taken_for_an_empty_scene(fault: Fault) -> None:
    engine = engine_of(fault)
    fault.next({"hang": True})
    with pytest.raises(TimeoutError, match="did not answer in time"):
        run(engine, deadline=time.monotonic() + 0.3)


def test_a_server_that_cannot_be_connected_to_is_not_taken_for_an_empty_scene(free_port: int) -> None:
    """As when its machine is gone: nothing refuses the connection, and nothing accepts it."""
    with fault_server(free_port) as fault:
        engine = engine_of(fault)
    with socket.socket() as deaf, ExitStack() as queue:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        deaf.bind(("127.0.0.1", free_port))
        deaf.listen(0)
        for _ in range(3):  # more than the system holds for it
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", free_port))
        with pytest.raises(ServerError, match="cannot be reached: TimeoutError"):
            run(engine, deadline=time.monotonic() + 0.3)


def test_a_frame_that_waits_past_its_deadline_is_no_fault_of_the_server(fault: Fault) -> None:
    engine = engine_of(fault)
    with pytest.raises(TaskError, match="server_in_flight"):
        run(engine, deadline=time.monotonic())
    assert not fault.seen()


@pytest.mark.parametrize("unwanted", ["response_format", "logprobs", "skip_special_tokens"])
def test_what_a_server_does_not_take_is_left_out_from_then_on(unwanted: str, fault: Fault) -> None:
    engine = engine_of(fault, answer_format="internvl" if unwanted == "skip_special_tokens" else "qwen3_vl")
    fault.next({"refuse": unwanted, "text": BOXES})
    run(engine)
    assert unwanted in fault.seen()[0]
    run(engine)
    (body,) = fault.seen()
    assert unwanted not in body


@pytest.mark.parametrize("task", [Task("caption"), DETECT], ids=lambda task: task.name)
def test_a_request_that_the_server_refuses_is_the_requests_fault(task: Task, fault: Fault) -> None:
    """And says nothing of the fields that it had: the next request has them all."""
    engine = engine_of(fault)
    fault.next({"status": 400, "body": '{"error": {"message": "the prompt is too long"}}'})
    with pytest.raises(TaskError, match="the prompt is too long"):
        run(engine, task)
    fault.next({"text": "[]"})
    run(engine)
    (body,) = fault.seen()
    assert {"logprobs", "response_format"} <= set(body)


@pytest.mark.parametrize(("after", "pauses"), [("0", [0.05, 0.1]), ("0.7", [0.7, 0.7]), ("90", [])])
def test_a_server_that_says_when_is_not_asked_before(
    after: str, pauses: list[float], fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(fault, server_timeout=80.0)
    fault.next(*2 * [{"status": 429, "header": ["Retry-After", after], "body": "slow down"}], {"text": "x"})
    slept: list[float] = []
    monkeypatch.setattr(server.time, "sleep", slept.append)
    monkeypatch.setattr(server.random, "uniform", lambda least, most: least)
    if pauses:
        assert run(engine, Task("caption")).text == "x"
    else:
        with pytest.raises(ServerError, match="429"):  # there is not that much time
            run(engine, Task("caption"))
    assert slept == pytest.approx(pauses)


def test_without_probabilities_every_score_is_the_same_and_it_is_said(fault: Fault, caplog: Any) -> None:
    engine = engine_of(fault)
    fault.next({"text": BOXES})
    engine.warm_up()
    assert not engine.info.scored
    assert "no probabilities" in caplog.text
    assert "schema" in caplog.text
    assert run(engine).detections[0].score == pytest.approx(server.UNSCORED)
    fault.next({"text": '{"argus": true}'}, {"text": BOXES, "probability": 0.5})
    caplog.clear()
    engine.warm_up()
    assert engine.info.scored
    assert not caplog.text


def test_no_more_than_so_many_requests_are_in_flight(fault: Fault) -> None:
    engine = engine_of(fault, server_in_flight=3)
    fault.next({"text": "x", "pause": 0.05, "after": 0})
    answers = dict(engine.stream([request(Task("caption"))] * 9, [photograph(SIZE)] * 9))
    assert sorted(answers) == list(range(9))
    assert all(isinstance(answer, Answer) for answer in answers.values())
    assert max(body["in_flight"] for body in fault.seen()) == 3


def test_the_key_goes_along_and_one_that_is_wrong_is_said(
    fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.KEY, "secret")
    engine = engine_of(fault)
    fault.next({"text": "x"}, {"status": 401, "body": "no"})
    run(engine, Task("caption"))
    assert fault.seen()[-1]["authorization"] == "Bearer secret"
    with pytest.raises(ServerError, match=rf"401.*{server.KEY}") as refused:
        run(engine, Task("caption"))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_a_key_from_a_file_may_end_with_a_line_break(
    end: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.KEY, f"secret{end}")
    run(engine_of(fault), Task("caption"))
    assert fault.seen()[-1]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("key", ["sk-se\ncret", "sk-se\rcret", "sk-se cret", "sk-sécret", "sk-se\x7fcret"])
def test_a_key_that_cannot_be_is_refused_and_not_quoted(
    key: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.KEY, key)
    with pytest.raises(CheckpointError, match=server.KEY) as refused:
        engine_of(fault)
    assert "sk-" not in str(refused.value)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("start", ["http://me:secret@", "https://secret@", "ftp://me:secret@", "me:secret@"])
def test_an_address_with_a_password_is_refused_and_not_quoted(start: str) -> None:
    for refuse in (checkpoints.served, server.Client):
        with pytest.raises(CheckpointError, match=server.KEY) as refused:
            refuse(f"{start}robots.example:8000/v1#some@model")
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("words", ["<image>", "a <|im_end|> b", "x <loc0001>", "[INST] hm", "</ref>"])
def test_control_tokens_are_refused(words: str, fault: Fault) -> None:
    with pytest.raises(TaskError, match="leave it out"):
        engine_of(fault).check(request(Task("ask", prompt=words)), photograph(SIZE))


def test_addresses_and_formats_that_cannot_be_are_refused(fault: Fault) -> None:
    for address in ("argus-nano", "ftp://x/v1", "http://", "http://a:99999999/v1", "http://[::1/v1"):
        with pytest.raises(CheckpointError, match="address"):
            engines.load(config(address))
    with pytest.raises(CheckpointError, match="has no chat"):
        engines.load(config(fault.url, answer_format="paligemma"))
    with pytest.raises(CheckpointError, match="it has some-model"):
        engines.load(config(f"{fault.url}#other"))
    assert engines.load(config(f"{fault.url}#some-model")).info.name == "some-model"
    assert checkpoints.served("https://robots.example/v1").tasks == ("caption", "ask")
    other = fault.url.replace("/v1", "/v2")
    with pytest.raises(ServerError, match=r"lists no models.*#MODEL"):
        engines.load(config(other))
    assert engines.load(config(f"{other}#named")).info.name == "named"


def test_one_that_is_not_there_may_come(free_port: int) -> None:
    with pytest.raises(ServerError, match="cannot be reached"):
        engines.load(config(f"http://127.0.0.1:{free_port}/v1"))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.slow
def test_behind_the_worker_boxes_are_in_pixels_of_the_cameras_frame(fault: Fault) -> None:
    """Through the engine's process and its shared memory, with a frame larger than a slot."""
    fault.next({"text": BOXES, "probability": 0.5})
    rgb = photograph((2400, 1500))
    image = Image(rgb, "rgb8", 2400, 1500, rgb.strides[0])
    asked = config(fault.url)
    with Offline(asked, checkpoints.read_for(asked).tiling) as offline:
        assert offline.engine.info
        assert offline.engine.info.device.startswith("server 127.0.0.1")
        answer = offline.run(image, DETECT)
    (found,) = answer.detections
    assert (found.x_min, found.y_min, found.x_max, found.y_max) == pytest.approx((240, 300, 720, 600))
    assert answer.dropped == 1


@pytest.mark.slow
def test_behind_the_worker_a_server_that_dies_comes_back(free_port: int) -> None:
    """The engine's process says why, tries again, and answers once the server is there again."""
    states: list[tuple[EngineState, str]] = []
    seen = threading.Condition()

    def event(state: EngineState, text: str) -> None:
        with seen:
            states.append((state, text))
            seen.notify_all()

    def wait_for(state: EngineState, after: int) -> None:
        with seen:
            assert seen.wait_for(lambda: any(s is state for s, _ in states[after:]), 60), states

    client = EngineClient(
        config(f"http://127.0.0.1:{free_port}/v1"), on_answer=lambda answered: None, on_event=event
    )
    client.start()
    try:
        wait_for(EngineState.RECOVERING, 0)
        assert "cannot be reached" in client.last_error
        with fault_server(free_port):
            wait_for(EngineState.RUNNING, 0)
    finally:
        client.stop()


# --- a real server ------------------------------------------------------------------------------------


@pytest.mark.skipif("ARGUS_TEST_SERVER" not in os.environ, reason="ARGUS_TEST_SERVER is no server's address")
@pytest.mark.parametrize("name", ["text", "qwen3_vl", "qwen2_5_vl", "lfm2_5_vl", "internvl"])
def test_a_real_server(name: str) -> None:
    engine = engines.load(config(os.environ["ARGUS_TEST_SERVER"], answer_format=name, server_timeout=60.0))
    engine.warm_up()
    for task in engine.info.tasks:
        requests = [request(Task(task, DETECT.classes, "a cone"), max_new_tokens=200)] * 3
        found = dict(engine.stream(requests, [photograph(SIZE, seed) for seed in range(3)]))
        assert sorted(found) == [0, 1, 2]
        for answer in found.values():
            assert isinstance(answer, Answer), answer
            assert why_unusable(answer, *SIZE) == ""
            assert answer.generated_tokens > 0
            assert bool(answer.text) <= (task in ("caption", "ask"))

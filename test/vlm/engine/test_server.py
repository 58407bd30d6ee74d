"""Backend ``openai`` against real HTTP servers: one in a process of its own that answers as a test wants,
and one with a real model where ``ARGUS_TEST_SERVER`` has its address."""

from __future__ import annotations

import base64
import math
import os
import re
import threading
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from served import BOXES, DETECT, SIZE, Fault, config, engine_of, fault_server, request, run, stream_of

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.engine_client import EngineClient, EngineState
from argus_ros.core.image import Image
from argus_ros.core.offline import Offline
from argus_ros.core.protocol import Arena, why_unusable
from argus_ros.core.section import CheckpointError
from argus_ros.core.types import Answer, Status, Task
from argus_ros.tools.pictures import photograph
from argus_ros.vlm import worker
from argus_ros.vlm.engine import engines, http_client
from argus_ros.vlm.engine.http_client import ServerError
from argus_ros.vlm.engine.server import encoded
from argus_ros.vlm.formats.prompts import TaskError


def test_boxes_and_text_are_read_from_the_answer(fault: Fault) -> None:
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


def test_the_request_holds_the_picture_the_schema_and_the_fields_of_the_format(fault: Fault) -> None:
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


def test_each_frame_has_its_own_error(fault: Fault) -> None:
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


def test_scores_stay_aligned_where_a_character_takes_two_tokens(fault: Fault) -> None:
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
    assert cone.score == pytest.approx((0.8**3 * http_client.UNSCORED) ** 0.25)
    assert ball.score == pytest.approx(0.3)


@pytest.mark.slow
def test_the_deadline_truncates_an_answer(fault: Fault) -> None:
    engine = engine_of(fault)
    fault.next({"text": BOXES, "pause": 30.0, "after": 8})
    answer = run(engine, deadline=time.monotonic() + 1.0)
    assert answer.status is Status.TRUNCATED
    assert len(answer.detections) == 1
    fault.next({"text": BOXES, "pause": 30.0, "after": 0})
    answer = run(engine, deadline=time.monotonic() + 0.5)
    assert (answer.status, answer.detections) == (Status.TRUNCATED, ())


@pytest.mark.slow
def test_silence_until_the_deadline_is_an_error_and_no_empty_scene(fault: Fault) -> None:
    engine = engine_of(fault)
    fault.next({"hang": True})
    with pytest.raises(TimeoutError, match="did not answer in time"):
        run(engine, deadline=time.monotonic() + 0.3)


def test_a_frame_that_waits_past_its_deadline_is_refused_unsent(fault: Fault) -> None:
    engine = engine_of(fault)
    with pytest.raises(TaskError, match="server_in_flight"):
        run(engine, deadline=time.monotonic())
    assert not fault.seen()


@pytest.mark.parametrize("unwanted", ["response_format", "logprobs", "skip_special_tokens"])
def test_fields_that_a_server_rejects_are_left_out_from_then_on(unwanted: str, fault: Fault) -> None:
    engine = engine_of(fault, answer_format="internvl" if unwanted == "skip_special_tokens" else "qwen3_vl")
    fault.next({"refuse": unwanted, "text": BOXES})
    run(engine)
    assert unwanted in fault.seen()[0]
    run(engine)
    (body,) = fault.seen()
    assert unwanted not in body


@pytest.mark.parametrize("task", [Task("caption"), DETECT], ids=lambda task: task.name)
def test_a_rejected_request_is_a_task_error(task: Task, fault: Fault) -> None:
    """And says nothing of the fields that it had: the next request has them all."""
    engine = engine_of(fault)
    fault.next({"status": 400, "body": '{"error": {"message": "the prompt is too long"}}'})
    with pytest.raises(TaskError, match="the prompt is too long"):
        run(engine, task)
    fault.next({"text": "[]"})
    run(engine)
    (body,) = fault.seen()
    assert {"logprobs", "response_format"} <= set(body)


@pytest.mark.slow
def test_without_probabilities_scores_are_constant_and_a_warning_is_logged(fault: Fault, caplog: Any) -> None:
    engine = engine_of(fault)
    fault.next({"text": BOXES})
    engine.warm_up()
    assert not engine.info.scored
    assert "no probabilities" in caplog.text
    assert "schema" in caplog.text
    assert run(engine).detections[0].score == pytest.approx(http_client.UNSCORED)
    fault.next({"text": '{"argus": true}'}, {"text": BOXES, "probability": 0.5})
    caplog.clear()
    engine.warm_up()
    assert engine.info.scored
    assert not caplog.text


@pytest.mark.slow
def test_requests_in_flight_are_bounded(fault: Fault) -> None:
    engine = engine_of(fault, server_in_flight=3)
    fault.next({"text": "x", "pause": 0.05, "after": 0})
    answers = dict(engine.stream([request(Task("caption"))] * 9, [photograph(SIZE)] * 9))
    assert sorted(answers) == list(range(9))
    assert all(isinstance(answer, Answer) for answer in answers.values())
    assert max(body["in_flight"] for body in fault.seen()) == 3


@pytest.mark.parametrize("words", ["<image>", "a <|im_end|> b", "x <loc0001>", "[INST] hm", "</ref>"])
def test_control_tokens_are_refused(words: str, fault: Fault) -> None:
    with pytest.raises(TaskError, match="leave it out"):
        engine_of(fault).check(request(Task("ask", prompt=words)), photograph(SIZE))


def test_bad_addresses_models_and_formats_are_refused(fault: Fault) -> None:
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


@pytest.mark.slow
def test_boxes_behind_the_worker_are_in_pixels_of_the_cameras_frame(fault: Fault) -> None:
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
def test_the_worker_waits_for_a_server_that_died(free_port: int) -> None:
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

"""The HTTP client of backend ``openai`` against a real server process that fails as a test wants."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
from served import SIZE, Fault, config, engine_of, fault_server, request, run, stream_of

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.section import CheckpointError
from argus_ros.core.types import Answer, Status, Task
from argus_ros.tools.pictures import photograph
from argus_ros.vlm.engine import engines, http_client
from argus_ros.vlm.engine.http_client import ServerError

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
def test_temporary_errors_are_retried(name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.01)
    engine = engine_of(fault)
    fault.next(PASSING[name], PASSING[name], {"text": "a cone"})
    assert run(engine, Task("caption")).text == "a cone"
    assert len(fault.seen()) == 3


@pytest.mark.parametrize("name", PASSING)
def test_lasting_errors_quote_the_server_and_leave_other_frames_alone(
    name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "FIRST_WAIT", 0.01)
    engine = engine_of(fault, server_in_flight=1)
    fault.next({**PASSING[name], "only": "is bad", "else": {"text": "a cone"}})
    requests = [request(Task("ask", prompt=f"What is {word}?")) for word in ("here", "bad", "there")]
    here, error, there = map(dict(engine.stream(requests, [photograph(SIZE)] * 3)).get, range(3))
    assert isinstance(error, ServerError)
    assert re.match(rf"{re.escape(fault.url)}.* \(after {http_client.TRIES} tries\)", str(error))
    assert [answer.text for answer in (here, there) if isinstance(answer, Answer)] == ["a cone"] * 2


@pytest.mark.parametrize(("said", "taken"), [(7, 7), (-7, 2), (10**30, http_client.LONGEST), (None, 2)])
def test_token_counts_are_bounded_and_a_null_error_is_no_error(
    said: int | None, taken: int, fault: Fault
) -> None:
    piece = {"choices": [{"delta": {"content": "a "}}], "error": None}
    usage = {"choices": [], "usage": {"completion_tokens": said}, "error": None}
    fault.next(stream_of(piece, piece, usage))
    assert run(engine_of(fault), Task("caption")).generated_tokens == taken
    assert len(fault.seen()) == 1


def test_a_stream_may_end_without_done(fault: Fault) -> None:
    """Without ``[DONE]``, as transformers serve ends it."""
    said = {"choices": [{"delta": {"content": "a cone"}, "finish_reason": "stop"}]}
    fault.next({"body": f"data: {json.dumps(said)}\n\n", "type": "text/event-stream"})
    answer = run(engine_of(fault), Task("caption"))
    assert (answer.text, answer.status) == ("a cone", Status.OK)
    assert len(fault.seen()) == 1


@pytest.mark.slow
def test_an_answer_is_read_up_to_a_length(fault: Fault) -> None:
    engine = engine_of(fault)
    fault.next({"text": "word " * 400_000})
    with pytest.raises(ServerError, match="more than"):
        run(engine, Task("caption"))


@pytest.mark.slow
@pytest.mark.parametrize("plan", [{"hang": True}, {"text": "a b c d e f g h", "pause": 30.0, "after": 0}])
def test_a_server_that_never_answers_times_out(plan: dict[str, Any], fault: Fault) -> None:
    engine = engine_of(fault, server_timeout=0.4)
    fault.next(plan)
    with pytest.raises(TimeoutError, match="in time"):
        run(engine, Task("caption"))
    fault.next({"text": "a cone"})
    assert run(engine, Task("caption")).text == "a cone"


@pytest.mark.slow
def test_a_server_that_sends_a_byte_now_and_then_times_out(fault: Fault) -> None:
    """Each part comes in time, and all of them together do not; what waited for them is free again."""
    engine = engine_of(fault, server_timeout=1.0, server_in_flight=1)
    fault.next({"drip": 80, "text": "late"}, {"text": "a cone"})
    with pytest.raises(TimeoutError, match="did not answer in time"):
        run(engine, Task("caption"))
    assert run(engine, Task("caption")).text == "a cone"


@pytest.mark.slow
def test_a_slow_name_look_up_times_out(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, found = engine_of(fault, server_timeout=0.2), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(10) and [])
        failures = [error for _, error in engine.stream([request()] * 6, [photograph(SIZE)] * 6)]
        found.set()
    assert [type(error) for error in failures] == [TimeoutError] * 6


@pytest.mark.slow
def test_sending_may_take_longer_than_the_connection_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "CONNECT", 0.2)
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
        client = http_client.Client(f"http://127.0.0.1:{slow.getsockname()[1]}/v1")
        picture = "x" * (32 << 20)  # more than the system takes while nobody reads
        assert client.ask({"picture": picture}, time.monotonic() + 20).text == "a cone"
        thread.join()


@pytest.mark.slow
def test_no_connection_is_an_error_and_no_empty_scene(free_port: int) -> None:
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


@pytest.mark.parametrize(("after", "pauses"), [("0", [0.05, 0.1]), ("0.7", [0.7, 0.7]), ("90", [])])
def test_retry_after_is_kept(
    after: str, pauses: list[float], fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(fault, server_timeout=80.0)
    fault.next(*2 * [{"status": 429, "header": ["Retry-After", after], "body": "slow down"}], {"text": "x"})
    slept: list[float] = []
    monkeypatch.setattr(http_client.time, "sleep", slept.append)
    monkeypatch.setattr(http_client.random, "uniform", lambda least, most: least)
    if pauses:
        assert run(engine, Task("caption")).text == "x"
    else:
        with pytest.raises(ServerError, match="429"):  # there is not that much time
            run(engine, Task("caption"))
    assert slept == pytest.approx(pauses)


def test_the_key_is_sent_and_a_wrong_one_is_named(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(http_client.KEY, "secret")
    engine = engine_of(fault)
    fault.next({"text": "x"}, {"status": 401, "body": "no"})
    run(engine, Task("caption"))
    assert fault.seen()[-1]["authorization"] == "Bearer secret"
    with pytest.raises(ServerError, match=rf"401.*{http_client.KEY}") as refused:
        run(engine, Task("caption"))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_a_key_from_a_file_may_end_with_a_line_break(
    end: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(http_client.KEY, f"secret{end}")
    run(engine_of(fault), Task("caption"))
    assert fault.seen()[-1]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("key", ["sk-se\ncret", "sk-se\rcret", "sk-se cret", "sk-sécret", "sk-se\x7fcret"])
def test_a_malformed_key_is_refused_and_not_quoted(
    key: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(http_client.KEY, key)
    with pytest.raises(CheckpointError, match=http_client.KEY) as refused:
        engine_of(fault)
    assert "sk-" not in str(refused.value)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("start", ["http://me:secret@", "https://secret@", "ftp://me:secret@", "me:secret@"])
def test_an_address_with_a_password_is_refused_and_not_quoted(start: str) -> None:
    for refuse in (checkpoints.served, http_client.Client):
        with pytest.raises(CheckpointError, match=http_client.KEY) as refused:
            refuse(f"{start}robots.example:8000/v1#some@model")
        assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_an_error_that_may_pass(free_port: int) -> None:
    with pytest.raises(ServerError, match="cannot be reached"):
        engines.load(config(f"http://127.0.0.1:{free_port}/v1"))

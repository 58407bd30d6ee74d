"""`argus watch`: what browsers get, who is refused, and what a real browser makes of the page."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from robot import WAIT, Robot, picture, start_node, visiting
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

MOST = 1 << 24  #: bytes of a message that the tests take


@pytest.fixture(scope="module")
def robot(shared_ros: Any, blank: Path) -> Iterator[Robot]:
    """A node with a camera that goes on all the time."""
    start_node(shared_ros, blank)
    with visiting() as robot:
        robot.stream(robot.camera(), picture())
        yield robot
        robot.rest()


def serve(ros: Any, *words: str, name: str = "watch") -> Any:
    return ros.start(name, sys.executable, "-m", "argus_ros.tools.main", "watch", "--port", "0", *words)


@pytest.fixture(scope="module")
def address(shared_ros: Any, robot: Robot) -> str:
    return serve(shared_ros).wait_for("http://", WAIT).strip()


def talk(
    address: str, conversation: Callable[[Any], Awaitable[Any]], origin: str | None = "", viewers: int = 1
) -> Any:
    """Connect as the page at ``address`` does, or with another origin, and have a conversation.

    With several viewers each has it, all at once; what the first one's returns is returned.
    """

    async def run() -> Any:
        where = address.replace("http", "ws").replace("/?", "/socket?")
        where = where if "socket" in where else f"{where}socket"
        own = "/".join(address.split("/")[:3]) if origin == "" else origin
        async with connect(where, origin=own, max_size=MOST) as browser:  # type: ignore[arg-type]
            return await asyncio.wait_for(conversation(browser), WAIT)

    async def all_of_them() -> Any:
        return (await asyncio.gather(*(run() for _ in range(viewers))))[0]

    return asyncio.run(all_of_them())


async def until(browser: Any, fits: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    while True:
        message = await browser.recv()
        if isinstance(message, str) and fits(said := json.loads(message)):
            return said


def test_a_viewer_gets_the_state_the_pictures_and_what_became_of_each_frame(
    address: str, robot: Robot
) -> None:
    async def conversation(browser: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while {"hello", "engine", "parameters", "detections", "timing", "picture"} - found.keys():
            message = await browser.recv()
            if isinstance(message, bytes):
                name = message[1 : 1 + message[0]].decode()
                jpeg = np.frombuffer(message[1 + message[0] :], np.uint8)
                found["picture"] = name, cv2.imdecode(jpeg, cv2.IMREAD_COLOR).shape
            else:
                said = json.loads(message)
                found[said["type"]] = said
        return found

    found = talk(address, conversation)
    assert found["hello"]["node"] == "/argus"
    assert found["engine"]["message"].startswith("engine: ")
    assert found["picture"] == ("front", (120, 160, 3))
    assert found["detections"]["camera"] == found["timing"]["camera"] == "front"
    assert found["parameters"]["values"].keys() == {"task", "classes", "prompt", "score_threshold"}


def test_a_viewer_changes_parameters_and_hears_why_not(address: str, robot: Robot) -> None:
    def setting(values: Any) -> str:
        async def conversation(browser: Any) -> str:
            await browser.send(json.dumps({"type": "set", "values": values}))
            return str((await until(browser, lambda said: said["type"] == "set"))["reason"])

        return str(talk(address, conversation))

    assert setting({"score_threshold": 0.25, "classes": ["cone"]}) == ""
    values = robot.call("get_parameters", names=["score_threshold", "classes"]).values
    assert (values[0].double_value, list(values[1].string_array_value)) == (0.25, ["cone"])
    assert "unicorn" in setting({"classes": ["unicorn"]})
    assert "model cannot be set here" in setting({"model": "other"})
    assert "score_threshold cannot be set here" in setting({"score_threshold": "high"})
    assert "nothing cannot be set" in setting({})
    assert "invalid request" in setting(7)
    assert setting({"score_threshold": 0, "classes": []}) == ""
    assert robot.call("get_parameters", names=["score_threshold"]).values[0].double_value == 0.0


def test_a_viewer_asks_and_is_answered(address: str, robot: Robot) -> None:
    async def conversation(browser: Any) -> list[dict[str, Any]]:
        answers = []
        for camera in ("front", "nowhere"):
            await browser.send(json.dumps({"type": "ask", "camera": camera, "prompt": ""}))
            answers.append(await until(browser, lambda said: said["type"] == "answer"))
        return answers

    seen, refused = talk(address, conversation)
    assert seen["reason"] == ""
    assert isinstance(seen["labels"], list)
    assert "there is no camera 'nowhere'" in refused["reason"]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"type": "ask", "camera": "\ud800", "prompt": ""}, "surrogates not allowed"),
        ({"type": "ask", "camera": "front", "prompt": "\ud800"}, "surrogates not allowed"),
        ({"type": "set", "values": {"classes": ["\ud800"]}}, "surrogates not allowed"),
        ({"type": "set", "values": {"prompt": "\ud800"}}, "surrogates not allowed"),
        ({"type": "set", "values": {"score_threshold": 10**400}}, "too large"),
        ({"type": "ask"}, "KeyError: 'camera'"),
    ],
)
def test_what_cannot_be_sent_on_is_answered_and_the_page_goes_on(
    address: str, robot: Robot, sent: dict[str, Any], reason: str
) -> None:
    async def conversation(browser: Any) -> str:
        await browser.send(json.dumps(sent))
        told = "answer" if sent["type"] == "ask" else "set"
        said = await until(browser, lambda said: said["type"] == told)
        await until(browser, lambda said: said["type"] == "parameters")  # only an answer brings these
        await until(browser, lambda said: said["type"] == "detections")
        return str(said["reason"])

    assert reason in talk(address, conversation)


def test_a_node_that_has_died_is_said_to_be_silent_and_is_asked_once_for_all_viewers(
    shared_ros: Any, robot: Robot
) -> None:
    """It answers and says that its engine runs; then requests still reach it, and nothing answers."""
    status = DiagnosticStatus(name="mortal: engine", message="running", level=DiagnosticStatus.OK)
    diagnostics = robot.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    mortal = rclpy.create_node("mortal", context=robot.context, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=robot.context)
    executor.add_node(mortal)

    def give(request: GetParameters.Request, response: GetParameters.Response) -> GetParameters.Response:
        response.values = [ParameterValue() for _ in request.names]
        return response

    service = mortal.create_service(GetParameters, "mortal/get_parameters", give)
    address = serve(shared_ros, "--node", "mortal", name="mortal").wait_for("http://", WAIT).strip()
    while not mortal.count_clients("/mortal/get_parameters"):  # or the first request is lost
        time.sleep(0.1)

    async def conversation(browser: Any) -> None:
        heard: set[str] = set()

        def lives(said: dict[str, Any]) -> bool:
            heard.add(said.get("message", said["type"]))
            return {"engine: running", "parameters"} <= heard

        living = asyncio.create_task(until(browser, lives))
        while not living.done():
            diagnostics.publish(DiagnosticArray(status=[status]))
            executor.spin_once(timeout_sec=0)
            await asyncio.wait([living], timeout=0.1)
        silent = "/mortal does not answer; is it running?"
        await until(browser, lambda said: said["type"] == "engine" and said["message"] == silent)

    try:
        talk(address, conversation, viewers=4)
        asked = 0
        while service.handle.service_take_request(GetParameters.Request)[0] is not None:
            asked += 1
        assert 1 <= asked < 4
    finally:
        executor.shutdown()
        mortal.destroy_node()
        robot.node.destroy_publisher(diagnostics)


def test_nobody_draws_once_the_last_viewer_has_gone(address: str, robot: Robot) -> None:
    """Also one that goes away in the middle of the stream, without a word."""

    def drawn_for() -> int:
        return robot.node.count_subscribers("/argus/annotated/compressed")

    async def conversation(browser: Any) -> None:
        while not isinstance(await browser.recv(), bytes):
            pass
        assert drawn_for() == 1
        browser.transport.abort()

    talk(address, conversation)
    for _ in range(int(10 * WAIT)):
        if not drawn_for():
            break
        time.sleep(0.1)
    assert drawn_for() == 0
    with urlopen(address) as page:
        assert page.status == 200


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "http://127.0.0.1:1", "null", None])
def test_a_page_of_another_origin_may_not_connect(address: str, origin: str | None) -> None:
    async def conversation(browser: Any) -> None:
        raise AssertionError("it was let in")

    with pytest.raises(InvalidStatus) as refused:
        talk(address, conversation, origin)
    assert refused.value.response.status_code == 403


def test_another_name_for_this_machine_is_refused_and_nothing_but_the_page_is_served(address: str) -> None:
    """DNS rebinding: a page of evil.example whose name is made to mean 127.0.0.1."""
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(address, headers={"Host": "evil.example"}))
    for path in ("watch.py", "../watch.py", "..%2fnode.py", "page/index.html"):
        with pytest.raises(HTTPError, match="404"):
            urlopen(address + path)
    with urlopen(address) as page:
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "http" not in page.read().decode(), "nothing comes from elsewhere"


def test_another_address_needs_the_token(shared_ros: Any, robot: Robot) -> None:
    given = serve(shared_ros, "--host", "0.0.0.0", name="open").wait_for("http://", WAIT).strip()
    assert re.fullmatch(r"http://0\.0\.0\.0:\d+/\?token=\S{20,}", given)
    bare = given.partition("?")[0]
    for wrong in (bare, f"{bare}?token=guess"):
        with pytest.raises(HTTPError, match="403"):
            urlopen(wrong)
    with urlopen(given) as page:
        assert page.status == 200

    async def conversation(browser: Any) -> str:
        return str((await until(browser, lambda said: said["type"] == "hello"))["node"])

    assert talk(given, conversation) == "/argus"
    with pytest.raises(InvalidStatus):
        talk(bare, conversation)


def test_a_port_that_is_taken_is_a_sentence(shared_ros: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = serve(shared_ros, "--port", port, name="taken")
        assert process.wait(WAIT) == 2
    assert f"port {port} of 127.0.0.1" in process.output
    assert "choose by --port" in process.output
    assert "Traceback" not in process.output


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium here")
def test_a_browser_shows_moving_pictures_changes_the_node_and_complains_of_nothing(
    address: str, robot: Robot, tmp_path: Path
) -> None:
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    words += ["--disable-background-networking", f"--user-data-dir={tmp_path}", "about:blank"]
    with subprocess.Popen(["chromium", *words], stderr=subprocess.PIPE, text=True) as chromium:
        try:
            assert chromium.stderr is not None
            line = next(line for line in chromium.stderr if "DevTools listening on" in line)
            asyncio.run(asyncio.wait_for(_look(line.split()[-1], address, robot), 2 * WAIT))
        finally:
            chromium.kill()


async def _look(devtools: str, address: str, robot: Robot) -> None:
    complaints: list[Any] = []
    async with connect(devtools, max_size=MOST) as chrome:
        number = 0

        async def do(method: str, session: str = "", **parameters: Any) -> Any:
            nonlocal number
            number += 1
            call = {"id": number, "method": method, "params": parameters}
            await chrome.send(json.dumps(call | ({"sessionId": session} if session else {})))
            while True:
                said = json.loads(await chrome.recv())
                method_said = said.get("method", "")
                if method_said in ("Runtime.exceptionThrown", "Log.entryAdded"):
                    complaints.append(said["params"])
                if said.get("id") == number:
                    assert "error" not in said, said
                    return said["result"]

        target = (await do("Target.createTarget", url="about:blank"))["targetId"]
        session = (await do("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            await do(f"{domain}.enable", session)
        await do("Page.navigate", session, url=address)

        async def value(script: str) -> Any:
            result = await do("Runtime.evaluate", session, expression=script, returnByValue=True)
            return result["result"].get("value")

        async def comes(script: str) -> Any:
            while not (found := await value(script)):
                await asyncio.sleep(0.1)
            return found

        first = await comes("document.querySelector('figure img')?.naturalWidth && "
                            "document.querySelector('figure img').src")  # fmt: skip
        await comes(f"document.querySelector('figure img').src !== '{first}'")
        assert await value("document.querySelector('figure img').naturalWidth") == 160
        await comes("document.querySelector('.counts').textContent.includes('published')")
        assert "front" in await value("document.querySelector('figure img').alt")
        assert "published" in await value("document.querySelector('.line').getAttribute('aria-label')")
        await comes("document.getElementById('settings').elements.score_threshold.value")
        await value(
            "const form = document.getElementById('settings');"
            "form.elements.score_threshold.value = 0.45; form.requestSubmit()"
        )
        await comes("document.getElementById('said').textContent === 'applied'")
        assert robot.call("get_parameters", names=["score_threshold"]).values[0].double_value == 0.45
        await value("document.getElementById('ask').requestSubmit()")
        await comes("!['', 'asking'].includes(document.getElementById('answer').textContent)")
        assert complaints == []
        # Pictures that are not shown, because they are broken or the next one comes first, are let go too.
        await value(
            "globalThis.kept = new Set(); const make = URL.createObjectURL, drop = URL.revokeObjectURL;"
            "URL.createObjectURL = (blob) => { const url = make(blob); kept.add(url); return url; };"
            "URL.revokeObjectURL = (url) => { kept.delete(url); drop(url); };"
        )
        broken = "picture(new TextEncoder().encode('\\x05front broken').buffer)"
        assert await value(f"for (let i = 0; i < 3; i++) {broken}; kept.size") == 1

"""A live page of the node without ROS tools: ``python -m argus_ros.ros.watch``, which `argus watch` starts.

It has its own process, so that viewers cost the node only one subscription to its annotated pictures, and
only while a page is open. By default it listens on the loopback interface; on others it requires a token.
Pages of other origins can neither read nor set anything: a socket's Origin has to be its own host.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import json
import math
import secrets
import socket
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage

from argus_ros.core.types import TASKS, Outcome
from argus_ros.msg import DetectionArray, FrameTiming
from argus_ros.ros.conversions import stamp_ns
from argus_ros.ros.intake import LOG_INTERVAL
from argus_ros.srv import Ask
from argus_ros.tools.watch import add_arguments

PAGE = Path(__file__).parent / "page"
#: The page's files, with their types.
FILES = {"index.html": "text/html", "watch.js": "text/javascript", "watch.css": "text/css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
#: Parameters that a viewer may set, with their checks.
SETTABLE: dict[str, Callable[[Any], bool]] = {
    "task": lambda value: value in TASKS,
    "classes": lambda value: isinstance(value, list) and all(isinstance(word, str) for word in value),
    "prompt": lambda value: isinstance(value, str),
    "score_threshold": lambda value: type(value) in (int, float) and math.isfinite(value),
}
MOST_BYTES = 1 << 16  #: of one message from a viewer
MOST_EVENTS = 300  #: queued for a slow viewer; older ones are dropped
MOST_VIEWERS = 50
PATIENCE = 10.0  #: timeout of the node's services, seconds
REFRESH = 2.0  #: seconds between two reads of the parameters
MISSING = "starlette, uvicorn and websockets are needed: pip install 'argus-ros[watch]'"

Event = dict[str, Any]


class Viewer:
    """One browser: the newest picture of each camera, and the events not sent yet."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._pictures: dict[str, bytes] = {}
        self._news = asyncio.Event()

    def event(self, event: Event) -> None:
        self._events.append(event)
        self._news.set()

    def picture(self, camera: str, jpeg: bytes) -> None:
        self._pictures[camera] = jpeg
        self._news.set()

    async def messages(self) -> AsyncIterator[str | bytes]:
        while True:
            await self._news.wait()
            self._news.clear()
            events, self._events = self._events, deque(maxlen=MOST_EVENTS)
            pictures, self._pictures = self._pictures, {}
            for event in events:
                yield json.dumps(event)
            for camera, jpeg in pictures.items():
                name = camera.encode()[:255]
                yield bytes([len(name)]) + name + jpeg


class Station:
    """The ROS side: sends the node's messages to every viewer, and viewers' requests to the node."""

    def __init__(self, target: str, loop: asyncio.AbstractEventLoop) -> None:
        self.target = target
        self.viewers: set[Viewer] = set()
        self._loop = loop
        self._latest: dict[str, Event] = {}  # by type, sent to a new viewer at once
        self._cameras: OrderedDict[tuple[str, int], str] = OrderedDict()  # by frame_id and stamp of an image
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[])
        self._node = rclpy.create_node("argus_watch", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._pictures: Subscription | None = None
        self._silent = f"{target} does not answer; is it running?"
        self._node.create_subscription(DetectionArray, f"{target}/detections", self._detections, 20)
        self._node.create_subscription(FrameTiming, f"{target}/timing", self._timing, 100)
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 10)
        self._set = self._client(SetParametersAtomically, "set_parameters_atomically")
        self._get = self._client(GetParameters, "get_parameters")
        self._ask = self._client(Ask, "ask")
        self._thread = threading.Thread(target=self._spin, name="ros", daemon=True)
        self._thread.start()
        self._watched = asyncio.Event()  # set while there are viewers
        self._refreshing = loop.create_task(self._refresh_while_watched())

    def close(self) -> None:
        self._refreshing.cancel()
        self._executor.create_task(lambda: rclpy.shutdown(context=self._context))
        self._thread.join()
        self._node.destroy_node()

    # --- viewers, in the loop's thread ----------------------------------------------------------

    @contextlib.contextmanager
    def viewing(self) -> Any:
        """A viewer while its page is open. The node draws pictures while there is one."""
        viewer = Viewer()
        viewer.event({"type": "hello", "node": self.target})
        for event in self._latest.values():
            viewer.event(event)
        self.viewers.add(viewer)
        self._watched.set()
        self._executor.create_task(self._update_subscription)
        try:
            yield viewer
        finally:
            self.viewers.discard(viewer)
            if not self.viewers:
                self._watched.clear()
            self._executor.create_task(self._update_subscription)

    async def set(self, values: dict[str, Any]) -> str:
        """Set parameters; returns "" or the reason why not."""
        wrong = [name for name, value in values.items() if not SETTABLE.get(name, lambda _: False)(value)]
        if wrong or not values:
            return f"{', '.join(wrong) or 'nothing'} cannot be set here to this value"
        if "classes" in values:
            values["classes"] = values["classes"] or [""]
        if "score_threshold" in values:
            values["score_threshold"] = float(values["score_threshold"])
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        done = await self.call(self._set, SetParametersAtomically.Request(parameters=parameters))
        if done is None:
            return self._silent
        await self.refresh()
        return "" if done.result.successful else str(done.result.reason)

    async def ask(self, camera: str, prompt: str) -> Event:
        request = Ask.Request(camera=camera, prompt=prompt, deadline=PATIENCE)
        done = await self.call(self._ask, request, 2 * PATIENCE)
        if done is None:
            return {"type": "answer", "reason": self._silent}
        labels = [d.label for d in done.answer.detections]
        return {"type": "answer", "reason": done.reason, "text": done.answer.text, "labels": labels}

    async def refresh(self) -> None:
        """Send all viewers the parameters, or a message that the node does not answer."""
        done = await self.call(self._get, GetParameters.Request(names=list(SETTABLE)))
        if done is None:  # its last diagnostics are outdated: level 3 is DiagnosticStatus.STALE
            self._broadcast({"type": "engine", "level": 3, "message": self._silent})
        elif len(done.values) == len(SETTABLE):
            values = dict(zip(SETTABLE, map(parameter_value_to_python, done.values), strict=True))
            self._broadcast({"type": "parameters", "values": values})

    async def _refresh_while_watched(self) -> None:
        while True:
            await self._watched.wait()
            await self.refresh()
            await asyncio.sleep(REFRESH)

    async def call(self, client: Client, request: Any, patience: float = PATIENCE) -> Any:
        """The response; None after a timeout. Raises rclpy's errors for an invalid request."""
        answered = self._loop.create_future()

        def take(response: Any) -> None:
            if not answered.done():  # in time
                answered.set_result(response)

        def done(future: Any) -> None:
            self._loop.call_soon_threadsafe(take, future.result())

        pending = client.call_async(request)  # called in this thread, so that its errors are raised here
        pending.add_done_callback(done)
        try:
            return await asyncio.wait_for(answered, patience)
        except asyncio.TimeoutError:
            return None
        finally:
            client.remove_pending_request(pending)

    def _broadcast(self, event: Event) -> None:
        if event["type"] in ("engine", "parameters"):
            self._latest[event["type"]] = event
        for viewer in self.viewers:
            viewer.event(event)

    # --- ROS, in the executor's thread ----------------------------------------------------------

    def _client(self, kind: type, name: str) -> Client:
        return self._node.create_client(kind, f"{self.target}/{name}")

    def _update_subscription(self) -> None:
        """Subscribe to pictures while there are viewers."""
        if self.viewers and self._pictures is None:
            topic = f"{self.target}/annotated/compressed"
            self._pictures = self._node.create_subscription(CompressedImage, topic, self._picture, 5)
        elif not self.viewers and self._pictures is not None:
            self._node.destroy_subscription(self._pictures)
            self._pictures = None

    def _send(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._broadcast, event)

    def _detections(self, message: DetectionArray) -> None:
        self._cameras[message.header.frame_id, stamp_ns(message.header)] = message.camera
        while len(self._cameras) > MOST_EVENTS:
            self._cameras.popitem(last=False)
        labels = [d.label for d in message.detections]
        told = {"camera": message.camera, "labels": labels, "text": message.text, "age": message.age}
        self._send({"type": "detections", **told})

    def _timing(self, message: FrameTiming) -> None:
        try:
            outcome = Outcome(message.outcome).name.lower()
        except ValueError:  # from a node of another version
            outcome = str(message.outcome)
        self._send({"type": "timing", "camera": message.camera, "outcome": outcome, "total": message.total})

    def _diagnostics(self, message: DiagnosticArray) -> None:
        name = f"{self.target.lstrip('/')}: engine"
        for status in message.status:
            if status.name == name:
                level = int.from_bytes(status.level, "little")
                self._send({"type": "engine", "level": level, "message": f"engine: {status.message}"})

    def _picture(self, message: CompressedImage) -> None:
        """The message has no camera, but detections with the same header came before it."""
        camera = self._cameras.get((message.header.frame_id, stamp_ns(message.header)))
        if camera is None:
            return
        jpeg = bytes(message.data)

        def show() -> None:
            for viewer in self.viewers:
                viewer.picture(camera, jpeg)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(show)

    def _spin(self) -> None:
        while self._context.ok():
            try:
                self._executor.spin()
            except ExternalShutdownException:
                return
            except Exception as error:  # one message must not end the thread
                self._node.get_logger().error(
                    f"a callback failed: {type(error).__name__}: {error}",
                    throttle_duration_sec=LOG_INTERVAL,
                )


# --- the web side ---------------------------------------------------------------------------------


class Gate:
    """Checks access: the right host, the page's own origin, and the token if there is one."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._token = token
        self._names = (
            {f"{name}:{port}" for name in (host, "127.0.0.1", "localhost", "[::1]")} if not token else None
        )

    def refuses(self, connection: Any, *, socket: bool = False) -> str:
        """Why a request or a socket is refused; "" where it is allowed."""
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        if self._names is not None and host not in self._names:
            return "this page is only served to this machine"  # against DNS rebinding
        token = connection.query_params.get("token", "").encode()  # text would have to be ASCII
        if self._token and not secrets.compare_digest(token, self._token.encode()):
            return "the address lacks the token that argus watch printed"
        if (socket or origin) and (origin or "").partition("://")[2] != host:
            return "scripts of other pages may not connect"
        return ""


def application(station: Station, gate: Gate) -> Any:
    """The Starlette application."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route, WebSocketRoute
    from starlette.websockets import WebSocketDisconnect

    async def file(request: Any) -> Response:
        name = request.path_params.get("name") or "index.html"
        if name == "index.html" and (reason := gate.refuses(request)):
            return PlainTextResponse(reason, 403, HEADERS)
        if name not in FILES:
            return PlainTextResponse("there is no such page", 404, HEADERS)
        return Response((PAGE / name).read_bytes(), 200, HEADERS, FILES[name])

    async def view(browser: Any) -> None:
        if gate.refuses(browser, socket=True) or len(station.viewers) >= MOST_VIEWERS:
            await browser.close(1008)  # before it is accepted: 403
            return
        await browser.accept()
        with station.viewing() as viewer:
            sending = asyncio.create_task(send(browser, viewer))
            try:
                while True:
                    await answer(viewer, await browser.receive_text())
            except (WebSocketDisconnect, KeyError, RuntimeError):  # it disconnected, or sent no text
                pass
            finally:
                sending.cancel()

    async def send(browser: Any, viewer: Viewer) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it disconnected
            async for message in viewer.messages():
                await (browser.send_bytes if isinstance(message, bytes) else browser.send_text)(message)

    async def answer(viewer: Viewer, text: str) -> None:
        kind = "set"
        try:
            asked = json.loads(text)
            kind = asked["type"]
            if kind == "set":
                viewer.event({"type": "set", "reason": await station.set(dict(asked["values"]))})
            elif kind == "ask":
                viewer.event(await station.ask(str(asked["camera"]), str(asked["prompt"])))
        except Exception as error:  # report any error to the browser
            told = "answer" if kind == "ask" else "set"
            viewer.event({"type": told, "reason": f"invalid request: {type(error).__name__}: {error}"})

    return Starlette(
        routes=[
            Route("/", file),
            Route("/{name}", file),
            WebSocketRoute("/socket", view),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="argus watch", description="a live page of the node")
    add_arguments(parser)
    options = parser.parse_args()
    try:
        import uvicorn
        from starlette import applications  # noqa: F401
        from websockets import version  # noqa: F401
    except ImportError as error:
        print(f"argus watch: {error}; {MISSING}", file=sys.stderr)
        return 2
    try:
        token = "" if ipaddress.ip_address(options.host).is_loopback else secrets.token_urlsafe(16)
        listening = socket.create_server(
            (options.host, options.port), family=socket.AF_INET6 if ":" in options.host else socket.AF_INET
        )
    except (OSError, ValueError, OverflowError) as error:
        print(
            f"argus watch: port {options.port} of {options.host}: {error}; choose by --port and --host",
            file=sys.stderr,
        )
        return 2
    port = listening.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    asyncio.run(_serve(uvicorn, options.node, listening, Gate(host, port, token), host, token))
    return 0


async def _serve(
    uvicorn: Any, target: str, listening: socket.socket, gate: Gate, host: str, token: str
) -> None:
    station = Station("/" + target.strip("/"), asyncio.get_running_loop())
    config = uvicorn.Config(
        application(station, gate),
        log_level="warning",
        lifespan="off",
        ws_max_size=MOST_BYTES,
        ws_per_message_deflate=False,  # JPEGs cannot be compressed further
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    server = uvicorn.Server(config)
    print(f"http://{host}:{listening.getsockname()[1]}/{f'?token={token}' if token else ''}", flush=True)
    try:
        await server.serve(sockets=[listening])
    finally:
        station.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(main())

"""The lifecycle node: cameras in, detections out.

Images are received in one thread per camera (``intake.py`` explains why) and prepared in threads of the
pipeline. The model runs in a process of its own. ``program.py`` spins the node.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import wraps
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile
from rclpy.task import Future
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from argus_ros.core import budget, checkpoint, fastdds
from argus_ros.core.engine_client import EngineState
from argus_ros.core.frame import PolicyError
from argus_ros.core.image import Image
from argus_ros.core.job import Report
from argus_ros.core.pipeline import Camera as Promise
from argus_ros.core.pipeline import Pipeline
from argus_ros.core.questions import AskError
from argus_ros.core.tracking import TrackingError
from argus_ros.core.types import Outcome, Task
from argus_ros.ros import diagnostics, frames, parameter_warnings, parameters
from argus_ros.ros.camera import Camera
from argus_ros.ros.intake import IntakeError
from argus_ros.ros.locator import Aims
from argus_ros.ros.metrics import MetricsError
from argus_ros.ros.outputs import until_shutdown
from argus_ros.ros.parameters import Change, Spec
from argus_ros.ros.results import FrameContext, Results
from argus_ros.ros.settings import ParameterError, Settings, check_cameras, reason_of
from argus_ros.ros.status import Status
from argus_ros.ros.traces import TracesError
from argus_ros.srv import Ask

Transition = Callable[["ArgusNode", LifecycleState], TransitionCallbackReturn]
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

STOP_SECONDS = 0.6  #: timeout for the engine's process to end, before it is killed
DIAGNOSTICS_INTERVAL = 1.0


def logged_transition(transition: Transition) -> Transition:
    """Log an exception in a transition, which rclpy turns into ERROR without a message."""

    @wraps(transition)
    def wrapper(node: ArgusNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            reason = f"{transition.__name__} failed: {type(error).__name__}: {error}"
            if node.context.ok():  # else a signal ended it during the transition
                node.get_logger().error(f"{reason}\n{traceback.format_exc()}")
            with suppress(Exception):  # cleaning up may fail, too
                node.close()  # before the log message: stopping the engine logs as well
            node.engine_health.changed(EngineState.FAILED, reason)
            raise

    return wrapper


class ArgusNode(LifecycleNode):
    """The lifecycle node. Raises ParameterError for an invalid parameter at start."""

    def __init__(self, **options: Any) -> None:
        short = fastdds.short_of_memory()  # checked before this process allocates its own segment
        super().__init__("argus", **options)
        if short:
            self.get_logger().error(short)
        self.pipeline: Pipeline | None = None
        self.cameras: dict[str, Camera] = {}  #: replaced as a whole: several threads read it
        self.enabled = True  #: set by service ~/enable, in any state of the lifecycle
        self.results = Results(self)
        self._active = False
        self._aims = Aims()  # target frames of positions
        self.engine_health = diagnostics.EngineHealth()
        self.settings = self._declare_all()
        self._status = Status(self, short)
        self.add_pre_set_parameters_callback(self._coerce)
        self.add_on_set_parameters_callback(self._change)
        self.add_post_set_parameters_callback(self._changed)
        # A separate callback group: an answer takes time, and parameters must not wait for it. All parallel
        # questions are kept: each gets an answer or an error.
        every = QoSProfile(history=HistoryPolicy.KEEP_ALL)
        group = ReentrantCallbackGroup()
        self.create_service(Ask, "~/ask", self._ask, qos_profile=every, callback_group=group)
        self.create_service(SetBool, "~/enable", self._enable)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # runs while a bag's clock is paused
        self.create_timer(DIAGNOSTICS_INTERVAL, self.watch, clock=steady)

    def start(self) -> None:
        """Configure and activate, if parameter ``autostart`` is set."""
        if self.get_parameter("autostart").value and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def close(self) -> None:
        """End the engine's process and every thread, each one even where another fails."""
        self._active = False
        with ExitStack() as ends:  # in reverse order
            ends.callback(self._forget)
            ends.callback(self.results.close)
            if self._aims.frames:
                ends.callback(self._aims.frames.stop)
            if self.pipeline:
                ends.callback(self.pipeline.stop, STOP_SECONDS)
            for camera in self.cameras.values():
                ends.callback(camera.deactivate)

    def _forget(self) -> None:
        self.pipeline, self._aims = None, Aims()
        self.cameras, self.results = {}, Results(self)

    # --- lifecycle ------------------------------------------------------------------------------

    @logged_transition
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self.settings = settings = Settings.of(self._values({}))
            settings.check_task()
            model = checkpoint.read_for(settings.engine)
            self._aims = self._aims_of(settings)
            cameras = self._cameras_of(settings)
            self.results.open(settings)
        except (
            ParameterError,
            TrackingError,
            MetricsError,
            TracesError,
            IntakeError,
            checkpoint.CheckpointError,
        ) as error:
            self._engine_event(EngineState.FAILED, str(error))
            self.close()
            return FAILURE
        self.cameras = cameras
        self.pipeline = Pipeline(
            settings.engine,
            model.tiling,
            promises(settings),
            on_result=self.results.publish_answer,
            on_report=self.results.publish_timing,
            on_event=self._engine_event,
            on_warning=self.get_logger().warning,
            on_log=lambda line: self.get_logger().info(f"engine: {line}"),
            levels=budget.ladder(model, settings.engine.preset),
            max_clock_skew=settings.max_clock_skew,
            publish_late=settings.publish_late,
            hang_seconds=settings.engine_hang_seconds,
            spare=settings.spare_engine,
        )
        self.pipeline.set_enabled(self.enabled)
        self.pipeline.start()
        return super().on_configure(state)

    @logged_transition
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        self._active = True
        for camera in self.cameras.values():
            camera.activate()
        return result

    @logged_transition
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        for camera in self.cameras.values():
            camera.deactivate()
        if self.pipeline:
            self.pipeline.clear("the node was deactivated")
        return super().on_deactivate(state)

    @logged_transition
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_cleanup(state)

    @logged_transition
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Clean up after an exception in a transition; the node is unconfigured then."""
        return SUCCESS

    def _LifecycleNodeMixin__on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        """rclpy's method raises for an invalid transition, which would end spin()."""
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        except RuntimeError as error:  # from rcl
            asked = request.transition.label or request.transition.id
            self.get_logger().error(f"transition {asked} is refused: {reason_of(error)}")
            response.success = False
            return response

    # --- parameters -----------------------------------------------------------------------------

    def _declare_all(self) -> Settings:
        try:
            self._declare(parameters.NODE)
            names = self.get_parameter("cameras").value
            check_cameras(names)
            for name in names:
                self._declare(parameters.of_camera(name))
            settings = Settings.of(self._values({}))
        except (InvalidParameterTypeException, InvalidParameterValueException, PolicyError) as error:
            raise ParameterError(str(error)) from None
        for complaint in parameter_warnings.ineffective_parameters(
            self._parameter_overrides, parameters.all_specs(names)
        ):
            self.get_logger().error(complaint)
        return settings

    def _declare(self, specs: Iterable[Spec]) -> None:
        for spec in specs:
            # rclpy has no other way to correct a value from a file or the command line.
            if given := self._parameter_overrides.get(spec.name):
                value = spec.coerce(given.value)
                self._parameter_overrides[spec.name] = Parameter(spec.name, value=value)
            self.declare_parameter(spec.name, spec.value, spec.descriptor)

    def _values(self, changed: dict[str, Any]) -> dict[str, Any]:
        """Every parameter's value after the changes ``changed``."""
        cameras = changed.get("cameras", self.get_parameter("cameras").value)
        return {name: self._value(spec) for name, spec in parameters.all_specs(cameras).items()} | changed

    def _value(self, spec: Spec) -> Any:
        if self.has_parameter(spec.name):
            return self.get_parameter(spec.name).value
        given = self._parameter_overrides.get(spec.name)  # given at start, for a camera added later
        return spec.coerce(given.value) if given else spec.value

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> SetParametersResult:
        """Set parameters, as in rclpy, but never raise, as the service's caller would wait forever.

        Any error is a refusal with a reason, also for an unknown name.
        """
        unknown = [change.name for change in parameter_list if not self.has_parameter(change.name)]
        if unknown:
            specs = parameters.all_specs(self.get_parameter("cameras").value)
            reasons = "; ".join(parameter_warnings.ineffective_parameters(unknown, specs))
            reason = reasons or f"{unknown[0]} can only be set at start"
            return SetParametersResult(successful=False, reason=reason)
        try:
            return super().set_parameters_atomically(parameter_list)
        except Exception as error:
            self.get_logger().error(f"parameters could not be set:\n{traceback.format_exc()}")
            return SetParametersResult(successful=False, reason=f"{type(error).__name__}: {error}")

    def _coerce(self, changes: list[Parameter]) -> list[Parameter]:
        specs = parameters.all_specs(self.get_parameter("cameras").value)
        return [
            Parameter(change.name, value=specs[change.name].coerce(change.value))
            if change.name in specs
            else change
            for change in changes
        ]

    def _change(self, changes: list[Parameter]) -> SetParametersResult:
        """Apply all of the changes, or none and return the reason."""
        try:
            self._take({change.name: change.value for change in changes})
        except (ParameterError, PolicyError, checkpoint.CheckpointError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _take(self, changed: dict[str, Any]) -> None:
        values = self._values(changed)
        specs = parameters.all_specs(values["cameras"])
        if not specs.keys() & changed.keys():  # a parameter of rclpy's own
            return
        settings = Settings.of(values)
        if not self.pipeline:
            if "model" in changed:
                checkpoint.read_for(settings.engine)
            self.settings = settings
            return
        for name in changed:
            if name in specs and specs[name].change is Change.CONFIGURE:
                raise ParameterError(
                    f"{name} can only be changed while the node is unconfigured: "
                    "deactivate it, clean it up, set this, and configure it again"
                )
        if settings.task != self.settings.task:
            settings.check_task()
        cameras = self._cameras_of(settings)
        self.pipeline.set_cameras(promises(settings))
        self.pipeline.publish_late = settings.publish_late
        self._subscribe(cameras, settings)
        self.settings = settings

    def _cameras_of(self, settings: Settings) -> dict[str, Camera]:
        """One camera for each of the settings; an existing one where its subscription can stay."""
        cameras = {}
        overrides = self._qos_overrides()
        for wanted in settings.cameras:
            camera = self.cameras.get(wanted.name)
            if camera is None or camera.settings.subscription != wanted.subscription:
                camera = Camera(
                    self, wanted, self._offer, overrides, self.results.publish_positions, self._aims
                )
            cameras[wanted.name] = camera
        return cameras

    def _aims_of(self, settings: Settings) -> Aims:
        """Target frames of positions. Raises ParameterError, and IntakeError where TF has no subscription."""
        aims = Aims(settings.target_frame, settings.ground_frame, settings.position_wait)
        wanted = "target_frame" if aims.target_frame else "ground_frame" if aims.ground_frame else ""
        if wanted and frames.tf2_py is None:
            raise ParameterError(f"{wanted} {frames.MISSING}")
        return replace(aims, frames=frames.Frames(self, self._qos_overrides())) if wanted else aims

    def _qos_overrides(self) -> list[Parameter]:
        return [p for p in self._parameter_overrides.values() if p.name.startswith("qos_overrides.")]

    def _subscribe(self, cameras: dict[str, Camera], settings: Settings) -> None:
        """Replace the cameras, with their settings."""
        before, self.cameras = self.cameras, cameras
        for wanted in settings.cameras:
            cameras[wanted.name].change(wanted)
        if settings.tracking:
            self.results.track(cameras)
        for name in before:
            if cameras.get(name) is not before[name]:
                before[name].deactivate()
        for name in cameras:
            if self._active and before.get(name) is not cameras[name]:
                cameras[name].activate()

    def _changed(self, changes: list[Parameter]) -> None:
        """Declare the parameters of new cameras."""
        for name in next((change.value for change in changes if change.name == "cameras"), ()):
            self._declare(spec for spec in parameters.of_camera(name) if not self.has_parameter(spec.name))

    # --- images in ------------------------------------------------------------------------------

    def _offer(self, camera: str, image: Image, stamp: int, header: Header) -> None:
        if (pipeline := self.pipeline) and (known := self.cameras.get(camera)):
            watched = self.results.watched()
            context = FrameContext(header, image if watched else None)
            now = self.get_clock().now().nanoseconds
            with suppress(KeyError):  # the camera was just removed
                pipeline.offer(camera, image, context, stamp, now, shared=known.shared)

    # --- questions ------------------------------------------------------------------------------

    async def _ask(self, request: Ask.Request, response: Ask.Response) -> Ask.Response:
        """Service ``~/ask``. The executor does other work until the report arrives."""
        reported = Future()

        def report_to(report: Report) -> None:
            reported.set_result(report)
            if self.executor:
                self.executor.wake()

        try:
            self._put(request, report_to)
        except (AskError, ParameterError) as refusal:
            response.reason = str(refusal)
            return response
        except Exception as error:  # without a response the caller would wait forever
            self.get_logger().error(f"a question failed:\n{traceback.format_exc()}")
            response.reason = f"{type(error).__name__}: {error}"
            return response
        report = await reported
        response.success = report.outcome is Outcome.PUBLISHED
        if response.success:
            response.answer = self.results.answer_to(report)
        else:
            response.reason = report.reason
        return response

    def _put(self, request: Ask.Request, report_to: Callable[[Report], None]) -> None:
        """Pass a question on to the pipeline. Raises AskError and ParameterError."""
        if not self.pipeline:
            raise AskError("the node is not configured")
        if not request.camera and len(self.cameras) > 1:
            raise AskError(f"name one of the cameras: {', '.join(self.cameras)}")
        camera = request.camera or next(iter(self.cameras))
        name = request.task or ("ask" if request.prompt else "detect")
        task = Task(name, tuple(c for c in request.classes if c.strip()), request.prompt)
        replace(self.settings, task=task).check_task()
        self.pipeline.ask(camera, task, request.deadline, report_to)

    # --- pausing --------------------------------------------------------------------------------

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Service ``~/enable``: pause or resume work, without a change of the lifecycle's state."""
        self.enabled = request.data
        if self.pipeline:
            self.pipeline.set_enabled(request.data)
        response.success = True
        response.message = "enabled" if request.data else "paused: new images end as DISABLED"
        self.get_logger().info(f"{response.message} (service ~/enable)")
        return response

    # --- diagnostics ----------------------------------------------------------------------------

    def _engine_event(self, state: EngineState, text: str) -> None:
        self.engine_health.changed(state, text)
        waiting = bool(self.pipeline and self.pipeline.engine.next_try)
        if not self.context.ok():  # a signal ended the context
            return
        if state in (EngineState.DEGRADED, EngineState.FAILED) or waiting:
            self.get_logger().error(f"engine {state.value}: {text}")
        elif text:
            self.get_logger().info(f"engine {state.value}: {text}")
        with until_shutdown(self.context):
            self._status.publish()

    def watch(self) -> None:
        for camera in self.cameras.values():
            camera.watch()
        self._status.publish()


def promises(settings: Settings) -> dict[str, Promise]:
    """Each camera's policy and task, for the pipeline."""
    return {c.name: Promise(c.policy, settings.task, c.region) for c in settings.cameras}

"""Renders solids, under lamps that cast shadows, into a bank of sprites. Needs MuJoCo (the extra ``lit``)."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from argus_ros.training.scenes import solids
from argus_ros.training.scenes.drawings import KINDS
from argus_ros.training.scenes.palette import COLOURS, shade_of
from argus_ros.training.scenes.scene import SPLITS
from argus_ros.training.scenes.solids.kit import Model, Part
from argus_ros.training.scenes.sprites import Bank, Sprite

SIDE = 512  #: side of the rendered picture in pixels
LONGEST = 192  #: side of a sprite in pixels
TAPERS = 100  #: steps of the taper of shapes that MuJoCo does not have

_SHAPES: dict[
    str, tuple[list[tuple[float, float]], tuple[int, int]]
] = {  # corners of the outline at the bottom, and how x and y go with the taper
    "drum": ([(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * math.pi, 48, endpoint=False)], (1, 1)),
    "block": ([(-1, -1), (1, -1), (1, 1), (-1, 1)], (1, 1)),
    "ridge": ([(-1, -1), (1, -1), (1, 1), (-1, 1)], (1, 0)),
}


def _mesh(shape: str, step: int) -> str:
    """MJCF of a unit shape."""
    outline, narrows = _SHAPES[shape]
    taper = max(step / TAPERS, 0.005)
    scale = [taper if n else 1.0 for n in narrows]
    corners = [(x, y, -1) for x, y in outline] + [(x * scale[0], y * scale[1], 1) for x, y in outline]
    vertices = " ".join(f"{v:.5f}" for corner in corners for v in corner)
    return f'<mesh name="{shape}{step}" vertex="{vertices}"/>'


def _world() -> str:
    meshes = "".join(_mesh(shape, step) for shape in _SHAPES for step in range(TAPERS + 1))
    return f"""<mujoco><statistic center="0 0 0" extent="1"/><visual>
        <quality offsamples="0" shadowsize="2048"/><map shadowscale="0.9" znear="0.01"/>
        <global offwidth="{SIDE}" offheight="{SIDE}"/></visual><asset>{meshes}</asset></mujoco>"""


def _mujoco() -> Any:
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")  # needs no screen
    try:
        import mujoco
    except ModuleNotFoundError:
        raise ValueError("rendering needs MuJoCo: pip install 'mujoco>=3.2,<3.18'") from None
    except Exception as error:  # it looks for OpenGL here, and each OpenGL has errors of its own
        raise _no_opengl() from error
    return mujoco


def _no_opengl() -> ValueError:
    used = os.environ.get("MUJOCO_GL", "the default")
    return ValueError(f"MuJoCo cannot use OpenGL with MUJOCO_GL={used}; try egl, osmesa or glfw")


class Studio:
    """Takes pictures of solids. A context manager, since it holds an OpenGL context.

    Raises ValueError where MuJoCo or an OpenGL for it is missing.
    """

    def __init__(self) -> None:
        mj = self._mj = _mujoco()
        self._model = mj.MjModel.from_xml_string(_world())
        self._data = mj.MjData(self._model)
        mj.mj_forward(self._model, self._data)
        try:
            self._gl = mj.GLContext(SIDE, SIDE)
            self._gl.make_current()
            self._context = mj.MjrContext(self._model, mj.mjtFontScale.mjFONTSCALE_100.value)
        except Exception as error:
            raise _no_opengl() from error
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mj.MjvScene(self._model, maxgeom=400)
        self._scene.flags[mj.mjtRndFlag.mjRND_SHADOW] = 1

    def __enter__(self) -> Studio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.free()
        self._gl.free()

    def picture(self, parts: Sequence[Part], rng: np.random.Generator, turn: float = 180.0) -> np.ndarray:
        """A cut-out, (height, width, 4) uint8, its RGB times alpha, its longer side ``LONGEST``.

        The view is up to ``turn`` degrees from the front, and 0 to 35 degrees above the floor.
        """
        self._put(parts, rng)
        self._light(rng)
        self._look(rng, turn)
        segment = self._mj.mjtRndFlag.mjRND_SEGMENT
        self._scene.flags[segment] = 0
        colours = self._render()
        self._scene.flags[segment] = 1
        mask = (self._render() > 0).max(-1)
        rows, columns = np.where(mask)
        y0, y1, x0, x1 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        whole = np.dstack([colours * mask[..., None], mask * np.uint8(255)])[y0:y1, x0:x1]
        scale = LONGEST / max(whole.shape[:2])
        size = (max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale)))
        return cv2.resize(whole, size, interpolation=cv2.INTER_AREA)

    def _put(self, parts: Sequence[Part], rng: np.random.Generator) -> None:
        """Move and scale the parts into a sphere of radius 1 about the origin."""
        extents = [np.abs(p.frame).sum(1) for p in parts]
        low = np.min([p.centre - e for p, e in zip(parts, extents, strict=True)], 0)
        high = np.max([p.centre + e for p, e in zip(parts, extents, strict=True)], 0)
        middle, scale = (low + high) / 2, 2 / float(np.linalg.norm(high - low))
        gloss, shine = rng.uniform(0, 0.6), rng.uniform(0.1, 0.9)
        for geom, part in zip(self._scene.geoms, parts, strict=False):
            self._init(geom, part, (part.centre - middle) * scale, part.frame * scale)
            geom.specular, geom.shininess, geom.segid = gloss, shine, 1
        self._scene.ngeom = len(parts)

    def _init(self, geom: Any, part: Part, centre: np.ndarray, frame: np.ndarray) -> None:
        mj, kinds = self._mj, self._mj.mjtGeom
        rgba = np.array([*part.colour, 255], np.float32) / 255
        if part.shape in _SHAPES:
            mesh = mj.mj_name2id(
                self._model, mj.mjtObj.mjOBJ_MESH, f"{part.shape}{round(part.taper * TAPERS)}"
            )
            own = np.empty(9)  # the compiler moves a mesh into its axes of inertia; this moves it back
            mj.mju_quat2Mat(own, self._model.mesh_quat[mesh])
            place = centre + frame @ self._model.mesh_pos[mesh]
            mj.mjv_initGeom(geom, kinds.mjGEOM_MESH, np.ones(3), place, np.eye(3).ravel(), rgba)
            geom.mat[:] = frame @ own.reshape(3, 3)  # scales and leans, which a geom of a model cannot
            geom.dataid = 2 * mesh  # the odd ones are convex hulls
        else:
            size = np.linalg.norm(frame, axis=0)
            turn = (frame / size).ravel()
            if part.shape == "ball":
                mj.mjv_initGeom(geom, kinds.mjGEOM_ELLIPSOID, size, centre, turn, rgba)
            else:
                mj.mjv_initGeom(geom, kinds.mjGEOM_CAPSULE, size[[0, 2, 1]], centre, turn, rgba)

    def _light(self, rng: np.random.Generator) -> None:
        """One lamp that casts shadows, and a weaker one from another side that does not."""
        self._scene.nlight = 2
        tint = 1 + rng.normal(0, 0.04, 3)
        for light, key in zip(self._scene.lights, (False, True), strict=False):
            around = rng.uniform(0, 2 * math.pi)
            up = math.radians(rng.uniform(20, 80) if key else rng.uniform(0, 60))
            way = np.array([math.cos(around) * math.cos(up), math.sin(around) * math.cos(up), math.sin(up)])
            light.pos, light.dir = 5 * way, -way
            light.attenuation, light.exponent, light.cutoff = (1, 0, 0), 0, 16
            light.castshadow, light.headlight = key, False
            light.ambient = np.zeros(3) if key else rng.uniform(0.4, 0.65) * tint[::-1]
            light.diffuse = rng.uniform(0.5, 1.0) * tint if key else np.full(3, rng.uniform(0.05, 0.3))
            light.specular = np.full(3, 0.8 if key else 0.1)

    def _look(self, rng: np.random.Generator, turn: float) -> None:
        mj, camera = self._mj, self._mj.MjvCamera()
        view = rng.uniform(22, 50)
        self._model.vis.global_.fovy = view
        camera.lookat[:] = 0
        camera.azimuth = 90 + rng.uniform(-turn, turn)
        camera.elevation = -35 * rng.random() ** 1.5
        camera.distance = 1.02 / math.sin(math.radians(view / 2))
        mj.mjv_updateCamera(self._model, self._data, camera, self._scene)

    def _render(self) -> np.ndarray:
        mj, whole = self._mj, self._mj.MjrRect(0, 0, SIDE, SIDE)
        pixels = np.empty((SIDE, SIDE, 3), np.uint8)
        mj.mjr_render(whole, self._scene, self._context)
        mj.mjr_readPixels(pixels, None, whole, self._context)
        return pixels[::-1]


def render_bank(
    count: int, split: str, seed: int = 0, report: Callable[[int], None] = lambda done: None
) -> Bank:
    """``count`` sprites, equally many of each class and colour. The same seed gives the same bank.

    Raises ValueError where MuJoCo is missing or ``count`` is under the number of classes.
    """
    if count < len(KINDS):
        raise ValueError(f"{count} sprites; take {len(KINDS)} or more, one for each class")
    sprites = []
    with Studio() as studio:
        for number in range(count):
            label = list(KINDS)[number % len(KINDS)]
            colour = list(COLOURS)[number // len(KINDS) % len(COLOURS)]
            rng = np.random.default_rng((seed, number, SPLITS.index(split)))
            models = solids.models_of(label, split)
            model = models[int(rng.integers(len(models)))]
            sprites.append(_sprite(studio, label, colour, model, rng))
            report(number + 1)
    return Bank(sprites, split)


def _sprite(studio: Studio, label: str, colour: str, model: Model, rng: np.random.Generator) -> Sprite:
    parts = solids.build(model, shade_of(colour, rng), rng)
    picture = studio.picture(parts, rng, solids.FAMILIES[label].turn)
    return Sprite.of(label, colour, solids.name_of(model), picture)

"""Synthetic scenes: objects that a robot meets, on procedural backgrounds, with exact boxes.

A scene is a function of its seed (and of the photographs and sprites given). ``split="train"`` never uses the
held-out drawing of a class or the held-out background; ``split="heldout"`` uses only these. ``split="val"``
shows the same drawings as training from other seeds, without the bending and wear that training adds.

=================  =========================================================================
``composition``    ``render``: one scene from its seed; which objects stand where
``scene``          what a scene is: the picture, and objects with their boxes
``painting``       puts one object into a picture: a drawing, or a sprite with its shadow
``drawings``       how each class is drawn, a module for each; ``brush`` draws the shapes
``wear``           bent proportions, patches, stripes, dirt and light on drawn objects
``backgrounds``    rooms, walls and photographs behind the objects, and distractors
``degradation``    exposure, blur, noise and JPEG, as of a camera
``palette``        colours by name, and random choices of shades
``solids``         each class as a solid, a module for each; ``renderer`` renders them with MuJoCo
``sprites``        cut-out pictures of objects, and banks of them
``film``           a camera that moves past objects: the video of the demo
=================  =========================================================================
"""

from argus_ros.training.scenes.composition import render
from argus_ros.training.scenes.drawings import CLASSES
from argus_ros.training.scenes.palette import COLOURS
from argus_ros.training.scenes.scene import SPLITS, Scene, SceneObject, clip, overlap

__all__ = ["CLASSES", "COLOURS", "SPLITS", "Scene", "SceneObject", "clip", "overlap", "render"]

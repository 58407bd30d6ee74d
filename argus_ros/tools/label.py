"""`argus label`: label pictures with an ONNX detector, as COCO data for training.

Each box has the detector's score, which is its weight in training. Use ``--complete`` for classes that the
detector does not miss on these pictures: `argus train` only treats these as absent where they have no box.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from rich.progress import track

from argus_ros.training.scenes import clip
from argus_ros.training.teacher import COCO_NAMES, Found, Teacher

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--teacher", type=Path, required=True, metavar="FILE", help="detector in ONNX format")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures, with subfolders")
    parser.add_argument("--out", type=Path, default=Path("out/labels.json"), help="COCO file to write")
    parser.add_argument("--score", type=float, default=0.4, help="boxes with a lower score are left out")
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="names of the labels, one per line; default: COCO's 80"
    )
    parser.add_argument(
        "--complete", default="", help="classes that are labelled completely, comma-separated"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")


def run(options: argparse.Namespace) -> int:
    names = options.names.read_text().split("\n") if options.names else COCO_NAMES
    names = tuple(name.strip() for name in names if name.strip())
    complete = tuple(c.strip() for c in options.complete.split(",") if c.strip())
    unknown = [c for c in complete if c not in names]
    if unknown:
        raise ValueError(
            f"--complete {unknown[0]!r} is not the name of a label; the labels are {', '.join(names)}"
        )
    files = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in PICTURES)
    if not files:
        raise ValueError(f"{options.images} contains no pictures ({', '.join(sorted(PICTURES))})")
    teacher = Teacher(options.teacher, names, options.threads)
    boxes, skipped = label(teacher, files)
    data = coco_data(boxes, options.images, names, complete, options.score)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(data))
    counts = Counter(names[a["category_id"] - 1] for a in data["annotations"])
    for file in skipped:
        print(f"skipped, not a readable picture: {file}")
    print(f"{len(boxes)} pictures, {sum(counts.values())} boxes in {options.out}")
    print(", ".join(f"{name} {count}" for name, count in counts.most_common(20)))
    return 0


def label(
    teacher: Teacher, files: Sequence[Path]
) -> tuple[dict[Path, tuple[tuple[int, int], list[Found]]], list[Path]]:
    """Size and boxes of each picture, and the files that cannot be read."""
    boxes: dict[Path, tuple[tuple[int, int], list[Found]]] = {}
    skipped = []
    for file in track(files, "pictures", transient=True):
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            skipped.append(file)
            continue
        boxes[file] = (image.shape[1], image.shape[0]), teacher.look(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return boxes, skipped


def coco_data(
    boxes: dict[Path, tuple[tuple[int, int], list[Found]]],
    root: Path,
    names: Sequence[str],
    complete: Sequence[str],
    score: float,
) -> dict[str, Any]:
    """COCO's instances, with the key ``exhaustive_category_ids`` in each picture."""
    ids = {name: i + 1 for i, name in enumerate(names)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (file, ((width, height), found)) in enumerate(boxes.items(), 1):
        images.append(
            {
                "id": number,
                "file_name": file.relative_to(root).as_posix(),
                "width": width,
                "height": height,
                "exhaustive_category_ids": [ids[c] for c in complete],
            }
        )
        for one in found:
            x0, y0, x1, y1 = clip(one.box, width, height)
            if one.score < score or x0 >= x1 or y0 >= y1:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[one.label],
                    "bbox": [round(v, 1) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "area": round((x1 - x0) * (y1 - y0), 1),
                    "iscrowd": 0,
                    "score": round(one.score, 3),
                }
            )
    categories = [{"id": i, "name": name} for name, i in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}

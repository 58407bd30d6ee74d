"""Reads a checkpoint's description from its JSON files, without loading torch.

A checkpoint is an ordinary transformers folder (``config.json``, ``model.safetensors``, ``tokenizer.json``,
``processor_config.json``). Settings that only an Argus checkpoint has are under the key ``argus`` of
``config.json``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argus_ros.core import families
from argus_ros.core.families import Family, Tiling
from argus_ros.core.section import CheckpointError, Section, read_json
from argus_ros.core.types import TASKS

if TYPE_CHECKING:
    from argus_ros.core.protocol import EngineConfig

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Tiling",
    "Vocabulary",
    "find",
    "image_processor",
    "read",
    "shipped",
]

#: Checkpoints that come with the package, by name.
SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"
#: The default checkpoint of the node and of the commands that take a user's own images.
DEFAULT = "argus-nano-real"
#: The largest number of location bins, and of objects in an answer.
MOST_BINS, MOST_OBJECTS = 1 << 14, 1 << 12


#: For models that run in transformers' own modules: their processor takes pictures without tiling.
WHOLE = Tiling(1, whole=True)
#: The formats in which open models write boxes (``vlm/formats``), and the tasks that each supports.
FORMATS = {
    "text": ("caption", "ask"),
    "internvl": ("detect", "ground", "caption", "ask"),
    "qwen2_vl": ("detect", "ground", "caption", "ask"),
    "qwen2_5_vl": ("detect", "ground", "caption", "ask"),
    "qwen3_vl": ("detect", "ground", "caption", "ask"),
    "lfm2_5_vl": ("detect", "ground", "caption", "ask"),
    "paligemma": ("detect", "ground", "caption", "ask"),
    "florence2": ("detect", "ground", "dense_caption", "caption"),
    "kosmos2": ("detect", "ground", "dense_caption", "caption", "ask"),
}
#: The format by ``model_type``.
FORMAT_OF = {
    **{name: name for name in ("internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "paligemma", "florence2")},
    "qwen3_vl_moe": "qwen3_vl",
    "lfm2_vl": "lfm2_5_vl",
    "kosmos-2": "kosmos2",
}
#: Formats with a chat template, which a server needs; formats with boxes in pixels of the model's input;
#: formats whose markers are special tokens, which servers omit by default.
IN_CHAT = ("text", "internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "lfm2_5_vl")
IN_PIXELS = ("qwen2_5_vl",)
SPECIAL_SIGNS = ("internvl", "qwen2_vl")
#: Formats that can detect every object, without a list of classes.
UNASKED = ("florence2",)


@dataclass(frozen=True)
class Vocabulary:
    """The ``argus`` section of ``config.json``: the answers that the checkpoint was trained to give."""

    tasks: tuple[str, ...]
    bins: int  #: location bins per axis; bin ``i`` is the edge ``i / (bins - 1)`` of the image
    classes: tuple[str, ...] = ()  #: closed vocabulary; empty means any phrase is accepted
    colours: tuple[str, ...] = ()  #: colour words that a description may put before a class
    max_objects: int = 8
    temperature: float = 1.0  #: of the scores, fitted on held-out scenes


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder and the contents of its JSON files."""

    name: str
    path: Path
    family: Family | None  #: None: it does not run natively
    config: dict[str, Any]
    tiling: Tiling
    vocabulary: Vocabulary | None  #: None: it is not an Argus checkpoint
    format: str = "text"  #: of an open model's answers, see ``FORMATS``

    @property
    def native(self) -> Family:
        """The family of a checkpoint that runs natively. Raises CheckpointError where it does not."""
        if self.family is None:
            raise CheckpointError(unsupported(Section(self.config, str(self.path / "config.json"))))
        return self.family

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.vocabulary.tasks if self.vocabulary else FORMATS[self.format]


def shipped() -> list[str]:
    """Names of the checkpoints that come with the package."""
    return sorted(p.parent.name for p in SHIPPED.glob("*/config.json"))


def find(name: str | Path) -> Path:
    """The folder of a checkpoint, given its shipped name, a path, or a hub id in the local cache.

    Downloads nothing. Raises CheckpointError.
    """
    try:
        for candidate in (SHIPPED / str(name), Path(name).expanduser()):
            config = candidate / "config.json"
            if config.is_file() or config.is_symlink():  # a broken link is reported when it is opened
                return candidate.resolve()
        given = Path(name).expanduser()
        there, instead = given.exists(), _not_a_checkpoint(str(name), given)
    except (OSError, RuntimeError, ValueError) as error:  # no permission, too long, unknown user, NUL byte
        why = error.strerror if isinstance(error, OSError) else error  # strerror omits the path
        raise CheckpointError(f"checkpoint {str(name)[:80]!r} cannot be opened: {why}") from None
    hub = HUB_ID.fullmatch(str(name))
    if hub and not there:
        snapshot = cached(hub["repo"], hub["revision"] or "main")
        if snapshot and (snapshot / "config.json").is_file():
            return snapshot
        raise CheckpointError(
            f"no checkpoint {str(name)!r}: no such folder, and as a hub id it is not in {hub_cache()}; "
            f"fetch it there with: argus models --download {name} (or set allow_download)"
        )
    names = ", ".join(shipped()) or "none"
    if instead:
        raise CheckpointError(
            f"no checkpoint {str(name)!r}: it {instead}; give a shipped one ({names}) or a folder in "
            "transformers' format, with a config.json"
        )
    raise CheckpointError(
        f"no checkpoint {str(name)!r}: neither a shipped one ({names}) "
        "nor a folder with a config.json; give one of these or the path of a folder"
    )


#: Model formats of other programs, by file extension.
_OTHER_FORMATS = {
    ".gguf": "holds weights of llama.cpp, which argus_ros cannot read",
    ".onnx": "holds an ONNX model, which argus_ros cannot run",
    ".engine": "holds a TensorRT engine, which argus_ros cannot run",
    ".pt": "holds a PyTorch pickle, such as YOLO's: argus_ros never opens these, as they can run any code",
}


def other_format(folder: Path) -> str:
    """What a folder without weights contains instead; "" where that is unknown."""
    if (folder / "adapter_config.json").is_file():
        return "is an adapter: merge it into its base (peft's merge_and_unload, then save_pretrained)"
    endings = {path.suffix for path in folder.iterdir()}
    return next((said for ending, said in _OTHER_FORMATS.items() if ending in endings), "")


def _not_a_checkpoint(name: str, path: Path) -> str:
    """What ``path`` is, where it is not a checkpoint; "" where that is unknown. Raises OSError."""
    if "://" in name:
        return "is a URL, which is not downloaded here (use argus models --download ORG/NAME)"
    if path.is_file():
        return _OTHER_FORMATS.get(path.suffix, "is a file, and a checkpoint is a folder")
    return other_format(path) if path.is_dir() else ""


#: Checkpoint names of model hubs; the part after @ is a branch, a tag or a commit.
HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?")


def hub_cache() -> Path:
    """The folder in which huggingface_hub keeps its downloads."""
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "huggingface"
    home = Path(os.environ.get("HF_HOME", home))
    # Unlike pathlib, this leaves ~ unchanged for a user without a home folder.
    return Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE", home / "hub")))


def cached(repo: str, revision: str = "main") -> Path | None:
    """The folder of a downloaded revision (branch, tag or full commit) of a hub repository, or None."""
    folder = hub_cache() / f"models--{repo.replace('/', '--')}"
    reference = folder / "refs" / revision
    try:
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if re.fullmatch(r"[\w.-]+", commit) and snapshot.is_dir() else None


def read(name: str | Path, backend: str = "native", answer_format: str = "auto") -> Checkpoint:
    """Read a checkpoint's JSON files. Raises CheckpointError that names the file and the fault."""
    if backend == "openai":
        return served(str(name), answer_format)
    path = find(name)
    config = read_json(path / "config.json")
    family = families.of(config.word("model_type"))
    if family is None and (backend != "transformers" or not config.word("model_type")):
        raise CheckpointError(unsupported(config))
    refuse(config)
    tiling = WHOLE
    if family is not None:
        tiling = family.tiling(config, config.section("vision_config"), image_processor(path))
    return Checkpoint(
        name=path.name,
        path=path,
        family=family,
        config=config.values,
        tiling=tiling,
        vocabulary=_vocabulary(config) if family and "argus" in config else None,
        format=_format(config, answer_format),
    )


def served(address: str, answer_format: str = "auto") -> Checkpoint:
    """The description of a model behind a server, ``http://HOST:PORT/v1``, with ``#MODEL`` behind it or not.

    Raises CheckpointError, which never quotes a password.
    """
    if "@" in address.partition("#")[0]:
        raise CheckpointError(
            "the server's address contains a user name or a password, which would be written to logs: "
            "remove the part before the @, and put a key into the environment variable OPENAI_API_KEY"
        )
    if not re.match(r"https?://[^/#\s]+", address):
        raise CheckpointError(
            f"backend openai needs the address of a server as model, such as http://127.0.0.1:8000/v1; "
            f"it is {address[:80]!r}"
        )
    format = _format(Section({}, address), answer_format)
    if format not in IN_CHAT:
        raise CheckpointError(
            f"answer_format {format} has no chat template, as a server needs; use {', '.join(IN_CHAT)}"
        )
    name = address.partition("#")[2] or address.partition("://")[2]
    return Checkpoint(name, Path(), None, {}, WHOLE, None, format)


def read_for(config: EngineConfig) -> Checkpoint:
    """The checkpoint of an engine; downloads its JSON files if allowed. Raises CheckpointError."""
    from argus_ros.core import hub  # hub imports this module

    hub.allow(config, weights=False)
    return read(config.checkpoint, config.backend, config.answer_format)


def _format(config: Section, asked: str) -> str:
    """The answer format: the requested one, else the folder's, else the architecture's."""
    if asked == "auto" and "argus_format" in config:
        asked = config.word("argus_format")
        if asked not in FORMATS:
            raise config.error("argus_format", f"one of {', '.join(FORMATS)}")
    if asked == "auto":
        return FORMAT_OF.get(config.word("model_type"), "text")
    if asked not in FORMATS:
        raise CheckpointError(f"answer_format is {asked!r}; it has to be auto or one of {', '.join(FORMATS)}")
    return asked


def refuse(config: Section) -> None:
    """Raise CheckpointError for quantised weights and for a checkpoint that needs its own code."""
    for section in (config, config.section("text_config"), config.section("vision_config")):
        if "quantization_config" in section:
            method = section.section("quantization_config").word("quant_method", "unknown")
            raise CheckpointError(
                f"{section.where}: quantization_config says that the weights are quantised ({method}), which "
                "argus_ros cannot read; use the checkpoint without quantisation"
            )
    if "auto_map" in config:
        raise CheckpointError(
            f"{config.where} has 'auto_map': it needs remote code, which argus_ros never runs; "
            "use a checkpoint in transformers' own format"
        )


#: Original layouts that have an equivalent in transformers' format.
SIBLINGS = {
    "internvl_chat": "this is the original layout: use the checkpoint whose name ends in -hf, "
    "such as OpenGVLab/InternVL3-1B-hf",
}


def unsupported(config: Section) -> str:
    """The error message for a folder whose architecture does not run natively."""
    model_type = config.word("model_type")
    known = ", ".join(sorted(t for family in families.FAMILIES for t in family.model_types))
    named = f"model_type {model_type!r} is not supported natively" if model_type else "lacks model_type"
    remarks = [SIBLINGS[model_type]] if model_type in SIBLINGS else []
    if "auto_map" in config:
        remarks.append("it needs remote code, which argus_ros never runs")
    elif model_type and model_type not in SIBLINGS:
        remarks.append("backend transformers may run it")
    return "; ".join((f"{config.where}: {named}; supported are {known}", *remarks))


def image_processor(path: Path) -> Section:
    """The image processor's settings: a section of processor_config.json in transformers 5, a file before."""
    if (path / "processor_config.json").is_file():
        settings = read_json(path / "processor_config.json")
        if "image_processor" in settings:
            return settings.section("image_processor")
    return read_json(path / "preprocessor_config.json")


def _vocabulary(config: Section) -> Vocabulary:
    section = config.section("argus")
    tasks = section.words("tasks")
    if not tasks or not set(tasks) <= set(TASKS):
        raise section.error("tasks", f"a list of some of {', '.join(TASKS)}")
    default = Vocabulary(tasks, 0)
    return Vocabulary(
        tasks=tasks,
        bins=section.count("bins", 0, 2, MOST_BINS),
        classes=section.words("classes"),
        colours=section.words("colours"),
        max_objects=section.count("max_objects", default.max_objects, 1, MOST_OBJECTS),
        temperature=section.number("temperature", default.temperature),
    )

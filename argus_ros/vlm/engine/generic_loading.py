"""Loads a folder's model and processor with transformers' own classes."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from argus_ros.core.checkpoint import Checkpoint
from argus_ros.core.section import CheckpointError, read_json
from argus_ros.vlm.formats import chat
from argus_ros.vlm.models.weights import check_finite, check_loaded

#: Nothing is downloaded, and no code in a folder is run.
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
#: Keys of processor_config.json that are not settings of the processor class itself.
_NOT_SETTINGS = (
    "processor_class",
    "image_processor",
    "video_processor",
    "chat_template",
    "feature_extractor",
)


def load_model(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model of a folder. Raises CheckpointError for any exception of transformers."""
    model_type = str(checkpoint.config.get("model_type"))
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise CheckpointError(
            f"{checkpoint.path / 'config.json'}: model_type {model_type!r} is not supported: transformers "
            f"{transformers.__version__} has no such model for pictures and text"
        )
    try:
        AutoConfig.from_pretrained(checkpoint.path, **LOCAL)
        model, told = AutoModelForImageTextToText.from_pretrained(
            checkpoint.path, dtype=dtype, use_safetensors=True, output_loading_info=True, **LOCAL
        )
    except CheckpointError:
        raise
    except Exception as error:  # invalid configurations can raise anything
        raise CheckpointError(
            f"transformers cannot load {checkpoint.path}: {type(error).__name__}: {error}"
        ) from None
    check_loaded(checkpoint.path, told)
    check_finite(checkpoint.path, model.named_parameters())
    return model


def processor_of(checkpoint: Checkpoint) -> Any:
    """The processor of a folder, without its video processor where torchvision is missing.

    Raises CheckpointError.
    """
    path, model_type = checkpoint.path, str(checkpoint.config.get("model_type"))
    try:
        return AutoProcessor.from_pretrained(path, **LOCAL)
    except ImportError as error:
        missing = error
    except Exception as error:
        raise CheckpointError(
            f"transformers cannot load the processor of {path}: {type(error).__name__}: {error}"
        ) from None
    try:
        kind = getattr(transformers, PROCESSOR_MAPPING_NAMES[model_type])
        pictures = AutoImageProcessor.from_pretrained(path, **LOCAL)
        tokenizer = AutoTokenizer.from_pretrained(path, **LOCAL)
        settings = path / "processor_config.json"
        own = read_json(settings).values if settings.is_file() else {}
        own = {k: v for k, v in own.items() if k not in _NOT_SETTINGS}
        template = chat.template(checkpoint)
        return _pictures_only(kind)(pictures, tokenizer, None, chat_template=template, **own)
    except Exception as error:
        raise CheckpointError(
            f"transformers cannot load the processor of {path}: {' '.join(str(missing).split())[:200]} "
            f"(nor without its video processor: {type(error).__name__}: {error})"
        ) from None


def _pictures_only(kind: type) -> type:
    """The processor class, with None allowed in place of the video processor."""

    def check(self: Any, name: str, part: object) -> Any:
        return None if part is None else kind.check_argument_for_proper_class(self, name, part)  # type: ignore[attr-defined]

    members = {"__module__": kind.__module__, "check_argument_for_proper_class": check}
    return type(kind.__name__, (kind,), members)

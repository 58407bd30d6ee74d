"""Make an Argus checkpoint out of open models: a SmolVLM or Idefics3 folder, or a SigLIP and a Llama folder.

What the folders lack is added: location tokens and the words of Argus prompts in the tokenizer, their rows in
the embeddings and the output layer, the ``argus`` section of config.json, and between SigLIP and Llama a
connector. All other weights stay as they are stored. The result answers under the grammar at once, and has to
be trained before its boxes mean anything (``argus train --base``).
"""

from __future__ import annotations

import math
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import AddedToken
from torch import Tensor
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from argus_ros.core import checkpoint as checkpoints
from argus_ros.core.checkpoint import MOST_BINS, MOST_OBJECTS, Vocabulary
from argus_ros.core.families import IDEFICS3
from argus_ros.core.resources import why_unreadable
from argus_ros.core.section import CheckpointError, Section, read_json
from argus_ros.core.types import TASKS
from argus_ros.vlm.formats import prompts
from argus_ros.vlm.formats.tokens import Tokens
from argus_ros.vlm.models import architecture, blank
from argus_ros.vlm.models.configurations import Parts, describe
from argus_ros.vlm.models.weights import check_loaded, check_stored, shards

#: Names of the connector's weight, the embeddings and the output layer.
CONNECTOR = "model.connector.modality_projection.proj.weight"
EMBEDDINGS, OUTPUT = "model.text_model.embed_tokens.weight", "lm_head.weight"
#: Special tokens of an Argus prompt that a tokenizer may have; the location tokens come after them.
SPECIAL = (
    prompts.BEGIN,
    prompts.END,
    prompts.IMAGE,
    "<fake_token_around_image>",
    "<global-img>",
    prompts.ANSWER,
)
#: What SigLIP's configuration says that Idefics3's has a place for.
SIGHT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
#: Visual tokens at most, unless a number of patches a token is asked for; SmolVLM has 64, or 81.
MOST_TOKENS = 81
#: Distance of new rows from the mean of the old ones, as a share of the old ones' spread.
NEAR = 0.25


@dataclass(frozen=True)
class Source:
    """A model that can become an Argus checkpoint."""

    config: Idefics3Config
    tokenizer: PreTrainedTokenizerFast
    weights: dict[str, Tensor]  #: by the names of Idefics3; without a connector where it is new


def convert(
    vision: str | Path,
    out: Path,
    language: str | Path | None = None,
    *,
    bins: int = 1000,
    max_objects: int = 32,
    shuffle: int = 0,
    seed: int = 0,
) -> int:
    """Write an Argus checkpoint to ``out``, which must not be there; returns its number of parameters.

    ``vision`` is a SmolVLM or Idefics3 folder, or a SigLIP folder with a Llama folder as ``language``. Of
    these two ``shuffle`` x ``shuffle`` patches become a visual token; 0 takes the fewest that make at most 81
    tokens. Raises CheckpointError for folders that cannot be converted, and ValueError for the other
    arguments.
    """
    if out.exists():
        raise ValueError(f"{out} is there already; name a new folder")
    if not 2 <= bins <= min(MOST_BINS, 1000) or not 1 <= max_objects <= MOST_OBJECTS:
        raise ValueError(f"take 2 to 1000 bins, and 1 to {MOST_OBJECTS} objects")
    if shuffle < 0 or (shuffle and language is None):
        raise ValueError("--shuffle is for a connector that is new, of --language, and at least 1")
    source = _joined(Path(vision), Path(language), shuffle) if language else _whole(Path(vision))
    vocabulary = Vocabulary(TASKS, bins=bins, max_objects=max_objects)
    old = len(source.tokenizer)
    _speak(source, vocabulary)
    torch.manual_seed(seed)
    _grow_rows(source, old, vocabulary)
    if language:
        source.weights[CONNECTOR] = _connector(source)
    _check(source, Path(vision))
    _write(source, out)
    return sum(weight.numel() for weight in source.weights.values())


# --- what is read -------------------------------------------------------------------------------------


def _whole(folder: Path) -> Source:
    """A SmolVLM or Idefics3 folder."""
    path, config = _folder(folder)
    model_type = config.word("model_type")
    if model_type in ("siglip", "siglip_vision_model"):
        raise CheckpointError(f"{path} has only eyes; name a Llama folder, such as SmolLM2's, in --language")
    if model_type not in IDEFICS3.model_types:
        raise CheckpointError(
            f"{path}: model_type {model_type!r} cannot be converted; what can be, is "
            f"{', '.join(IDEFICS3.model_types)}, and siglip with --language llama"
        )
    if "argus" in config:
        raise CheckpointError(f"{path} is an Argus checkpoint already; train from it with argus train --base")
    _require_normal(path)
    text = config.section("text_config")
    text.require("model_type", "llama")
    values = {
        **config.values,
        "vision_config": {
            k: v for k, v in config.section("vision_config").values.items() if k != "model_type"
        },
    }
    values = {key: value for key, value in values.items() if key not in ("model_type", "architectures")}
    weights = _read(path)
    made = _config(Idefics3Config, values, config.where)
    made.tie_word_embeddings = made.text_config.tie_word_embeddings = _is_tied(path, weights, config, text)
    return Source(made, _tokenizer(path), weights)


def _joined(vision: Path, language: Path, shuffle: int) -> Source:
    """A SigLIP and a Llama folder, for which the connector is still to be made."""
    (eyes, sees), (words, says) = _folder(vision), _folder(language)
    if (kind := sees.word("model_type")) not in ("siglip", "siglip_vision_model"):
        raise CheckpointError(f"{eyes}: model_type {kind!r} is no SigLIP (siglip, siglip_vision_model)")
    if (kind := says.word("model_type")) != "llama":
        raise CheckpointError(f"{words}: model_type {kind!r} is no llama, as SmolLM2 and Llama are")
    _require_normal(eyes)
    section = sees.section("vision_config") if sees.word("model_type") == "siglip" else sees
    sight = _config(SiglipVisionConfig, section.values, section.where)
    side = sight.image_size // sight.patch_size
    shuffle = shuffle or next(
        (n for n in range(1, side) if not side % n and (side // n) ** 2 <= MOST_TOKENS), 0
    )
    if not shuffle or side % shuffle:
        whole = ", ".join(str(n) for n in range(1, side + 1) if not side % n)
        raise CheckpointError(f"{eyes} has {side} patches a side: --shuffle has to be one of {whole}")
    text = _config(LlamaConfig, says.values, says.where)
    weights = {f"model.vision_model.{_short(name)}": w for name, w in _read(eyes, _is_sight).items()}
    weights |= {
        name if name == OUTPUT else f"model.text_model.{name.removeprefix('model.')}": w
        for name, w in _read(words).items()
    }
    tied = _is_tied(words, weights, says)
    config = Idefics3Config(
        scale_factor=shuffle,
        tie_word_embeddings=tied,
        vision_config={key: getattr(sight, key) for key in SIGHT},
        text_config={**text.to_dict(), "tie_word_embeddings": tied},
    )
    return Source(config, _tokenizer(words), weights)


def _is_tied(folder: Path, weights: dict[str, Tensor], *sections: Section) -> bool:
    """Whether the embeddings are the output layer. Raises CheckpointError where it is missing."""
    if OUTPUT not in weights and not architecture.may_be_tied(*sections):
        check_loaded(folder, {"missing_keys": [OUTPUT]})
    return OUTPUT not in weights


def _is_sight(name: str) -> bool:
    """Whether a weight of a SigLIP folder belongs to the vision tower, without the pooling behind it."""
    other = ("text_model.", "logit_", "head.", "vision_model.head.")
    return not name.startswith(other)


def _short(name: str) -> str:
    return name.removeprefix("vision_model.")


def _folder(folder: Path) -> tuple[Path, Section]:
    """A checkpoint's folder and its configuration. Raises CheckpointError."""
    path = checkpoints.find(folder)
    config = read_json(path / "config.json")
    checkpoints.refuse(config)
    check_stored(path)
    return path, config


def _config(kind: Any, values: dict[str, Any], where: str) -> Any:
    """A configuration of transformers. Raises CheckpointError for whatever it raises."""
    try:
        return kind(**values)
    except Exception as error:  # a configuration can be wrong in any way
        raise CheckpointError(f"{where}: {type(error).__name__}: {' '.join(str(error).split())}") from None


def _require_normal(path: Path) -> None:
    """Raise CheckpointError for pictures that are not normalised as training does it."""
    if not any((path / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")):
        return
    pictures = checkpoints.image_processor(path)
    for key in ("image_mean", "image_std"):
        if pictures.channels(key, 0.5) != (0.5, 0.5, 0.5):
            raise pictures.error(key, "0.5 for each channel, as in SmolVLM and SigLIP, to be converted")


def _tokenizer(path: Path) -> PreTrainedTokenizerFast:
    if not (path / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{path} has no tokenizer.json; transformers writes one with "
            "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"{path / 'tokenizer.json'} cannot be read: {error}") from None
    tokenizer.chat_template = None  # an Argus checkpoint has prompts of its own
    return tokenizer


def _read(path: Path, wanted: Any = lambda name: True) -> dict[str, Tensor]:
    """Weights of a folder, whole or sharded, as they are stored. Raises CheckpointError."""
    found: dict[str, Tensor] = {}
    for file in shards(path):
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(safe_open(file, "pt"))
                found |= {name: opened.get_tensor(name) for name in filter(wanted, opened.keys())}
            except (OSError, SafetensorError) as error:
                raise CheckpointError(why_unreadable(file, error, "fetch the file again")) from None
    return found


# --- what is added ------------------------------------------------------------------------------------


def _speak(source: Source, vocabulary: Vocabulary) -> None:
    """Add the tokens, and say in the configuration what they are. Raises CheckpointError."""
    tokenizer, config = source.tokenizer, source.config
    locations = [prompts.location_token(i) for i in range(vocabulary.bins)]
    words = tokenizer.get_vocab()
    if known := [token for token in (*locations, "<loc_0>") if token in words]:
        raise CheckpointError(
            f"{tokenizer.name_or_path} has location tokens of its own, such as {known[0]}, on another scale; "
            "convert the model that it was trained from"
        )
    if len(tokenizer) > len(source.weights.get(EMBEDDINGS, ())):
        raise CheckpointError(
            f"{tokenizer.name_or_path}: tokenizer.json has {len(tokenizer)} tokens, and the embeddings have "
            f"{len(source.weights.get(EMBEDDINGS, ()))} rows"
        )
    pad = tokenizer.pad_token
    special = SPECIAL if pad and pad not in SPECIAL else ("<pad>", *SPECIAL)
    tokens = [AddedToken(token, special=True, normalized=False) for token in (*special, *locations)]
    if max(words.values(), default=-1) >= len(tokenizer):  # new tokens would get ids that others have
        raise CheckpointError(
            f"{tokenizer.name_or_path}: tokenizer.json leaves ids out; number its tokens anew"
        )
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.pad_token = special[0] if special != SPECIAL else pad
    tokenizer.eos_token = prompts.END
    ids = tokenizer.convert_tokens_to_ids
    config.image_token_id = ids(prompts.IMAGE)
    config.pad_token_id = config.text_config.pad_token_id = tokenizer.pad_token_id
    config.text_config.bos_token_id = ids(prompts.BEGIN)
    config.text_config.eos_token_id = tokenizer.eos_token_id
    config.text_config.vocab_size = max(len(source.weights[EMBEDDINGS]), len(tokenizer))
    config.architectures = ["Idefics3ForConditionalGeneration"]
    config.dtype = source.weights[EMBEDDINGS].dtype
    config.argus = blank.section(vocabulary)


def _grow_rows(source: Source, old: int, vocabulary: Vocabulary) -> None:
    """Rows for the tokens from ``old`` on: near the mean of the others, and neighbouring places alike."""
    first = source.tokenizer.convert_tokens_to_ids(prompts.location_token(0))
    for name in (EMBEDDINGS, OUTPUT):
        if name not in source.weights:
            continue
        stored = source.weights[name]
        known = stored[:old].float()
        new = torch.randn(len(source.tokenizer) - old, known.shape[1])
        waves = blank.waves(torch.linspace(0, 1, vocabulary.bins), known.shape[1]) * math.sqrt(2)
        new[first - old : first - old + vocabulary.bins] = waves
        rows = known.mean(0) + NEAR * known.std() * new
        filled = stored[len(source.tokenizer) :]  # rows that the source has for no token
        source.weights[name] = torch.cat([stored[:old], rows.to(stored.dtype), filled])


def _connector(source: Source) -> Tensor:
    """A random projection whose visual tokens are about as large as the embeddings of words."""
    config, words = source.config, source.weights[EMBEDDINGS]
    width = config.vision_config.hidden_size * config.scale_factor**2
    size = _rms(words) / (_rms(source.weights["model.vision_model.post_layernorm.weight"]) * math.sqrt(width))
    return (torch.randn(config.text_config.hidden_size, width) * size).to(words.dtype)


def _rms(weight: Tensor) -> float:
    return float(weight.float().square().mean().sqrt())


# --- what is written ----------------------------------------------------------------------------------


def _check(source: Source, folder: Path) -> None:
    """Raise CheckpointError unless the weights are those that the configuration means."""
    try:
        with torch.device("meta"):
            wanted = Idefics3ForConditionalGeneration(source.config).state_dict()
    except Exception as error:  # a configuration can be wrong in any way
        raise CheckpointError(f"{folder}: {type(error).__name__}: {error}") from None
    if source.config.tie_word_embeddings:
        del wanted[OUTPUT]
    told = {"missing_keys": wanted.keys() - source.weights.keys()}
    check_loaded(folder, told | {"unexpected_keys": source.weights.keys() - wanted.keys()})
    for name in source.weights.keys() - wanted.keys():
        del source.weights[name]
    for name, weight in source.weights.items():
        if weight.shape != wanted[name].shape:
            raise CheckpointError(
                f"{folder}: weight {name!r} has shape {tuple(weight.shape)}; config.json means "
                f"{tuple(wanted[name].shape)}"
            )


def _write(source: Source, out: Path) -> None:
    """Write the folder beside its place, and move it there when it is whole."""
    parent = out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=parent) as scratch:
        folder = Path(scratch) / out.name
        processor = blank.make_processor(source.config, source.tokenizer)
        describe(Parts(source.config, source.tokenizer, processor), folder)
        weights = {name: weight.contiguous() for name, weight in source.weights.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", folder / "model.safetensors")
        try:
            checkpoint = checkpoints.read(folder)
            architecture.read(checkpoint)
            Tokens(checkpoint, source.config.text_config.vocab_size)
        except CheckpointError as error:  # what the native engine could not run is not left behind
            raise CheckpointError(str(error).replace(str(folder), str(out))) from None
        folder.rename(out)

"""Folders laid out as published, with the published fields and small random weights: only widths, depths and
vocabularies are shrunk."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

#: Chat templates as published.
SMOLVLM_CHAT = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
IDEFICS3_CHAT = SMOLVLM_CHAT.replace("<|im_start|>", "<|begin_of_text|>")
DOCLING_CHAT = (
    "{%- for message in messages -%}{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' -}}"
    "{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}{{- part['text'] -}}"
    "{%- elif part['type'] == 'image' -%}{{- '<image>' -}}{%- endif -%}{%- endfor -%}"
    "{{- '<|end_of_text|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|start_of_role|>assistant<|end_of_role|>' -}}{%- endif -%}"
)
INTERN_CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)

SAID = ["<ref>", "</ref>", "<box>", "</box>"]
TILES = [f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)]


def byte_level(special: Sequence[str], begin: str = "", **named: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on two sentences; with ``begin`` it puts that before every text."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet)
    bpe.train_from_iterator(
        ["User:Describe this image briefly.\n\n\nAssistant: a cone and a ball.\n\n"] * 9, trainer
    )
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if begin:
        pair = [(begin, bpe.token_to_id(begin))]
        bpe.post_processor = processors.TemplateProcessing(f"{begin} $A", f"{begin} $A {begin} $B", pair)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, clean_up_tokenization_spaces=False, **named)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def save(
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    processor: dict[str, Any],
    chat: str,
    ends: Sequence[int],
    **generation: Any,
) -> Path:
    """The folder, its weights random but bold, so that answers depend on the picture."""
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "norm" not in name:
            weight.data += torch.randn(weight.shape) * 0.12
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=list(ends), pad_token_id=tokenizer.pad_token_id, **generation
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "chat_template.jinja").write_text(chat)
    return folder


def idefics3(
    folder: Path,
    *,
    chat: str = SMOLVLM_CHAT,
    side: int = 32,
    patch: int = 8,
    factor: int = 2,
    begin: str = "",
    end: str = "<end_of_utterance>",
    more: Sequence[str] = (),
    text: dict[str, Any] | None = None,
    **generation: Any,
) -> Path:
    """SmolVLM's layout, of which Idefics3's and Docling's differ in their words."""
    special = [
        "<pad>",
        "<|im_start|>",
        "<end_of_utterance>",
        "<fake_token_around_image>",
        "<image>",
        "<global-img>",
    ]
    special += [*TILES, *SAID, *more]
    tokenizer = byte_level(
        list(dict.fromkeys(special)),
        begin,
        pad_token="<pad>",
        bos_token=begin or "<|im_start|>",
        eos_token=end,
    )
    config = transformers.Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=factor,
        tie_word_embeddings=False,
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer) + 7,  # published ones are filled up, too
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "rope_theta": 273768.0,
            **(text or {}),
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": patch,
        },
    )
    processor = {
        "image_processor_type": "Idefics3ImageProcessor",
        "do_image_splitting": True,
        "do_resize": True,
        "max_image_size": {"longest_edge": side},
        "size": {"longest_edge": 3 * side},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Idefics3Processor",
    }
    ends = [tokenizer.convert_tokens_to_ids(end)]
    model = transformers.Idefics3ForConditionalGeneration(config)
    save(folder, model, tokenizer, processor, chat, ends, **generation)
    tokens = {"processor_class": "Idefics3Processor", "image_seq_len": (side // patch // factor) ** 2}
    (folder / "processor_config.json").write_text(json.dumps(tokens))
    return folder


def internvl(folder: Path, text: dict[str, Any], vision: dict[str, Any] | None = None) -> Path:
    special = [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<img>",
        "</img>",
        "<IMG_CONTEXT>",
        "<video>",
        *SAID,
    ]
    names = {"start_image_token": "<img>", "end_image_token": "</img>"}
    names |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = byte_level(
        special, pad_token="<|endoftext|>", eos_token="<|im_end|>", extra_special_tokens=names
    )
    config = transformers.InternVLConfig(
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
        text_config={
            "vocab_size": len(tokenizer) + 9,
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_theta": 1000000.0,
            **text,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "attention_bias": True,
            "image_size": [32, 32],
            "patch_size": [8, 8],
            **(vision or {}),
        },
    )
    processor = {
        "image_processor_type": "GotOcr2ImageProcessor",
        "crop_to_patches": False,
        "min_patches": 1,
        "max_patches": 12,
        "size": {"height": 32, "width": 32},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "processor_class": "InternVLProcessor",
    }
    model = transformers.InternVLForConditionalGeneration(config)
    ends = [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    save(folder, model, tokenizer, processor, INTERN_CHAT, ends)
    tokens = {"processor_class": "InternVLProcessor", "image_seq_length": 4}
    (folder / "processor_config.json").write_text(json.dumps(tokens))
    return folder


DYNAMIC = {"rope_type": "dynamic", "type": "dynamic", "factor": 2.0}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
QWEN3 = {"model_type": "qwen3", "head_dim": 16, "max_position_embeddings": 40960}

#: The native layouts, by the checkpoint whose fields they have.
NATIVE: dict[str, Callable[[Path], Path]] = {
    "SmolVLM-256M": lambda folder: idefics3(folder),
    "SmolVLM-2.2B": lambda folder: idefics3(
        folder, side=44, patch=7, factor=3
    ),  # 384 by 14, 3: 27 and a rest
    "Idefics3-8B": lambda folder: idefics3(
        folder,
        chat=IDEFICS3_CHAT,
        begin="<|begin_of_text|>",
        more=["<|begin_of_text|>"],
        text={"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64}},
        bad_words_ids=[[300], [301]],
    ),
    "Granite-Docling": lambda folder: idefics3(
        folder,
        chat=DOCLING_CHAT,
        end="<|end_of_text|>",
        more=["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"],
    ),
    "InternVL3-2B": lambda folder: internvl(folder, {"model_type": "qwen2", "rope_scaling": DYNAMIC}),
    "InternVL3.5-1B": lambda folder: internvl(folder, QWEN3),
    "InternVL3-38B": lambda folder: internvl(
        folder,
        {"model_type": "qwen2", "rope_scaling": DYNAMIC},
        {"norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": False},
    ),
}

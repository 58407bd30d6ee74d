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


def siglip(folder: Path, side: int = 32, whole: bool = True) -> Path:
    """SigLIP's layout: both towers, or the vision tower alone; its tokenizer is never read."""
    sight = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
        "patch_size": 8,
    }
    words = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(3)
    if whole:
        config = transformers.SiglipConfig(vision_config=sight, text_config={**words, "vocab_size": 99})
        transformers.SiglipModel(config).save_pretrained(folder)
    else:
        transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sight)).save_pretrained(folder)
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": side, "width": side}}
    processor |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def llama(folder: Path, *, tied: bool = True, begin: str = "", **text: Any) -> Path:
    """SmolLM2's layout; with ``begin`` Llama 3's, whose tokenizer puts that before every text."""
    special = [begin, "<|end_of_text|>"] if begin else ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level(special, begin, bos_token=special[0], eos_token=special[1])
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=tied,
        **{"rope_theta": 100000.0, **text},
    )
    torch.manual_seed(4)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
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


# --- for the generic backend: transformers' own classes ------------------------------------------------

QWEN_CHAT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAVA_CHAT = QWEN_CHAT.replace("<|vision_start|><|image_pad|><|vision_end|>", "<image>\n")
GEMMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ message['role'] }}\n"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}<start_of_image>"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
IDEFICS2_CHAT = SMOLVLM_CHAT.replace("<|im_start|>", "")
QWEN_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
NORMAL = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
TINY_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
#: Room for as many visual tokens as published processors make.
LONG_TEXT = {**TINY_TEXT, "max_position_embeddings": 32768}
TINY_SIGHT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def folder_of(
    folder: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    images: dict[str, Any],
    processor: dict[str, Any],
    chat: str = "",
    end: str = "<|im_end|>",
) -> Path:
    save(folder, model, tokenizer, images, chat, [tokenizer.convert_tokens_to_ids(end)])
    if not chat:
        (folder / "chat_template.jinja").unlink()
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


def qwen_vl(folder: Path, kind: str, most: int = 28 * 28 * 16) -> Path:
    """Qwen2-VL, Qwen2.5-VL and Qwen3-VL; ``most`` pixels."""
    tokenizer = byte_level(QWEN_SPECIAL, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    ids = tokenizer.convert_tokens_to_ids
    text = {
        **(LONG_TEXT if most > 1 << 14 else TINY_TEXT),
        "vocab_size": len(tokenizer),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
        "tie_word_embeddings": False,
    }
    sight: dict[str, Any] = {"depth": 2, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2}
    if kind == "Qwen2VL":
        sight |= {"embed_dim": 32, "hidden_size": 32, "patch_size": 14}
    elif kind == "Qwen2_5_VL":
        sight |= {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "patch_size": 14}
        sight |= {"fullatt_block_indexes": [1], "window_size": 56}
    else:
        text |= {"head_dim": 8}
        sight |= {"hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 48, "patch_size": 16}
        sight |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
    tokens = {f"{name}_token_id": ids(f"<|{name}|>") for name in ("vision_start", "vision_end")}
    tokens |= {"image_token_id": ids("<|image_pad|>"), "video_token_id": ids("<|video_pad|>")}
    config = getattr(transformers, f"{kind}Config")(text_config=text, vision_config=sight, **tokens)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    images = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": sight["patch_size"],
        "temporal_patch_size": 2,
        "merge_size": 2,
        "size": {"shortest_edge": 56 * 56, "longest_edge": most},
        **NORMAL,
    }
    processor = {"processor_class": f"{kind}Processor"}
    return folder_of(folder, model, tokenizer, images | processor, processor, QWEN_CHAT)


def paligemma(folder: Path, side: int = 28) -> Path:
    special = ["<pad>", "<eos>", "<bos>", "<image>", *(f"<loc{i:04d}>" for i in range(1024))]
    special += [f"<seg{i:03d}>" for i in range(128)]
    tokenizer = byte_level(
        special,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens={"image_token": "<image>"},
    )
    text = {**TINY_TEXT, "model_type": "gemma", "head_dim": 8, "vocab_size": len(tokenizer)}
    sight = {**TINY_SIGHT, "model_type": "siglip_vision_model", "projection_dim": 32, "image_size": side}
    config = transformers.PaliGemmaConfig(
        text_config=text,
        vision_config=sight,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
    )
    images = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": side, "width": side},
        "resample": 3,
        "image_seq_length": (side // 14) ** 2,
        "processor_class": "PaliGemmaProcessor",
        **NORMAL,
    }
    model = transformers.PaliGemmaForConditionalGeneration(config)
    return folder_of(folder, model, tokenizer, images, {"processor_class": "PaliGemmaProcessor"}, end="<eos>")


def florence2(folder: Path, side: int = 64, stride: int = 4) -> Path:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<od>", "</od>", "<image>"]
    special += [f"<loc_{i}>" for i in range(1000)]
    tokenizer = byte_level(
        special,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        extra_special_tokens={"image_token": "<image>"},
    )
    ids = tokenizer.convert_tokens_to_ids
    text = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 1024,
        "bos_token_id": ids("<s>"),
        "eos_token_id": ids("</s>"),
        "pad_token_id": ids("<pad>"),
        "decoder_start_token_id": ids("</s>"),
        "forced_bos_token_id": ids("<s>"),
        "forced_eos_token_id": ids("</s>"),
    }
    sight = {
        "embed_dim": [16, 32],
        "depths": [1, 1],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "patch_size": [7, 3],
        "patch_stride": [stride, 2],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "window_size": 4,
        "projection_dim": 32,
        "max_temporal_embeddings": 100,
        "max_position_embeddings": 50,
    }
    config = transformers.Florence2Config(
        text_config=text, vision_config=sight, image_token_id=ids("<image>"), is_encoder_decoder=True
    )
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"height": side, "width": side},
        "crop_size": {"height": side, "width": side},
        "do_center_crop": False,
        "resample": 3,
        "image_seq_length": (side // stride // 2) ** 2 + 1,
        "processor_class": "Florence2Processor",
        **NORMAL,
    }
    model = transformers.Florence2ForConditionalGeneration(config)
    model.generation_config.num_beams = 3
    processor = {"processor_class": "Florence2Processor"}
    save(
        folder,
        model,
        tokenizer,
        images,
        "",
        [ids("</s>")],
        num_beams=3,
        no_repeat_ngram_size=3,
        forced_bos_token_id=ids("<s>"),
        forced_eos_token_id=ids("</s>"),
        decoder_start_token_id=ids("</s>"),
        early_stopping=True,
    )
    (folder / "chat_template.jinja").unlink()
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


def kosmos2(folder: Path, side: int = 28) -> Path:
    tags = ["</doc>", "<image>", "</image>", "</chunk>", "</line>", "<phrase>", "</phrase>", "<object>"]
    tags += ["</object>", "</delimiter_of_multi_objects/>", "<grounding>"]
    special = ["<s>", "<pad>", "</s>", "<unk>", *tags, *(f"<patch_index_{i:04d}>" for i in range(1024))]
    tokenizer = byte_level(
        special, "<s>", pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    config = transformers.Kosmos2Config(
        text_config={
            "vocab_size": len(tokenizer),
            "embed_dim": 32,
            "layers": 2,
            "ffn_dim": 48,
            "attention_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**TINY_SIGHT, "image_size": side},
        latent_query_num=64,
    )
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "processor_class": "Kosmos2Processor",
        **NORMAL,
    }
    model = transformers.Kosmos2ForConditionalGeneration(config)
    return folder_of(
        folder,
        model,
        tokenizer,
        images,
        {"processor_class": "Kosmos2Processor", "num_patch_index_tokens": 1024, "num_image_tokens": 64},
        end="</s>",
    )


def llava(folder: Path, side: int = 28) -> Path:
    tokenizer = byte_level(
        ["<pad>", "<|im_start|>", "<|im_end|>", "<image>"], pad_token="<pad>", eos_token="<|im_end|>"
    )
    config = transformers.LlavaConfig(
        text_config={**TINY_TEXT, "model_type": "llama", "vocab_size": len(tokenizer)},
        vision_config={
            **TINY_SIGHT,
            "model_type": "clip_vision_model",
            "projection_dim": 32,
            "image_size": side,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        **NORMAL,
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
        "image_token": "<image>",
    }
    return folder_of(
        folder, transformers.LlavaForConditionalGeneration(config), tokenizer, images, processor, LLAVA_CHAT
    )


def llava_onevision(folder: Path, side: int = 28, most: int = 2) -> Path:
    """Up to ``most`` tiles of ``side`` along an edge."""
    pinpoints = [[side * i, side * j] for i in range(1, most + 1) for j in range(1, most + 1)]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    tokenizer = byte_level(special, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    ids = tokenizer.convert_tokens_to_ids
    config = transformers.LlavaOnevisionConfig(
        text_config={**LONG_TEXT, "model_type": "qwen2", "vocab_size": len(tokenizer)},
        vision_config={**TINY_SIGHT, "model_type": "siglip_vision_model", "image_size": side},
        image_token_index=ids("<image>"),
        video_token_index=ids("<video>"),
        image_grid_pinpoints=pinpoints,
    )
    images = {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "size": {"height": side, "width": side},
        "image_grid_pinpoints": pinpoints,
        **NORMAL,
    }
    processor = {
        "processor_class": "LlavaOnevisionProcessor",
        "num_image_tokens": (side // 14) ** 2,
        "vision_feature_select_strategy": "full",
        "image_token": "<image>",
        "video_token": "<video>",
        "vision_aspect_ratio": "anyres_max_9",
    }
    model = transformers.LlavaOnevisionForConditionalGeneration(config)
    return folder_of(folder, model, tokenizer, images, processor, LLAVA_CHAT)


def gemma3(folder: Path, side: int = 28) -> Path:
    special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    special += ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    names = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokenizer = byte_level(
        special, "<bos>", pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", extra_special_tokens=names
    )
    ids = tokenizer.convert_tokens_to_ids
    config = transformers.Gemma3Config(
        text_config={**TINY_TEXT, "head_dim": 8, "vocab_size": len(tokenizer), "sliding_window": 64},
        vision_config={**TINY_SIGHT, "model_type": "siglip_vision_model", "image_size": side},
        mm_tokens_per_image=min((side // 14) ** 2, 256),
        boi_token_index=ids("<start_of_image>"),
        eoi_token_index=ids("<end_of_image>"),
        image_token_index=ids("<image_soft_token>"),
    )
    images = {
        "image_processor_type": "Gemma3ImageProcessor",
        "size": {"height": side, "width": side},
        **NORMAL,
    }
    processor = {"processor_class": "Gemma3Processor", "image_seq_length": min((side // 14) ** 2, 256)}
    model = transformers.Gemma3ForConditionalGeneration(config)
    return folder_of(folder, model, tokenizer, images, processor, GEMMA_CHAT, end="<end_of_turn>")


def idefics2(folder: Path, least: int = 14, most: int = 28) -> Path:
    special = ["<pad>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    tokenizer = byte_level(special, "<s>", pad_token="<pad>", eos_token="</s>", bos_token="<s>")
    config = transformers.Idefics2Config(
        text_config={**TINY_TEXT, "model_type": "mistral", "vocab_size": len(tokenizer)},
        vision_config={**TINY_SIGHT, "image_size": most},
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 16,
            "num_key_value_heads": 1,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = {
        "image_processor_type": "Idefics2ImageProcessor",
        "do_image_splitting": False,
        "size": {"shortest_edge": least, "longest_edge": most},
        **NORMAL,
    }
    processor = {"processor_class": "Idefics2Processor", "image_seq_len": 4}
    model = transformers.Idefics2ForConditionalGeneration(config)
    return folder_of(folder, model, tokenizer, images, processor, IDEFICS2_CHAT, end="<end_of_utterance>")


#: Layouts that run through transformers' own modules and processor, by the checkpoint whose layout it is.
GENERIC: dict[str, Callable[[Path], Path]] = {
    "Qwen2-VL": lambda folder: qwen_vl(folder, "Qwen2VL"),
    "Qwen2.5-VL": lambda folder: qwen_vl(folder, "Qwen2_5_VL"),
    "Qwen3-VL": lambda folder: qwen_vl(folder, "Qwen3VL"),
    "PaliGemma": paligemma,
    "Florence-2": florence2,
    "Kosmos-2": kosmos2,
    "LLaVA-1.5": llava,
    "LLaVA-OneVision": llava_onevision,
    "Gemma 3": gemma3,
    "Idefics2": idefics2,
}
#: The same with their image processors' published sizes, for measurements: models as small, as many patches.
PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "Qwen2-VL": lambda folder: qwen_vl(folder, "Qwen2VL", 12845056),
    "Qwen2.5-VL": lambda folder: qwen_vl(folder, "Qwen2_5_VL", 12845056),
    "Qwen3-VL": lambda folder: qwen_vl(folder, "Qwen3VL", 12845056),
    "PaliGemma": lambda folder: paligemma(folder, 448),
    "Florence-2": lambda folder: florence2(folder, 768, 16),
    "Kosmos-2": lambda folder: kosmos2(folder, 224),
    "LLaVA-1.5": lambda folder: llava(folder, 336),
    "LLaVA-OneVision": lambda folder: llava_onevision(folder, 384, 6),
    "Gemma 3": lambda folder: gemma3(folder, 896),
    "Idefics2": lambda folder: idefics2(folder, 378, 980),
}

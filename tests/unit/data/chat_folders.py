"""Small tokenizer folders whose chat templates write what those of published models write, in words of our own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

_TEXTS = [
    "assistant",
    "What is in the picture? A cat on a mat, and 3 dogs.",
    "user assistant system model tool USER: ASSISTANT: ",
] * 3

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CHATML_GENERATION = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CHATML_LONG_GENERATION = CHATML_GENERATION.replace(
    "<|im_end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}",
    "<|im_end|>\n' }}{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}",
)

_QWEN_TOOLS = """
{%- macro opening() -%}
{{- '<|im_start|>system\\n' -}}
{%- if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}{{ default_system }}{% endif -%}
{%- if tools %}
{{- '\\n\\n# Tools\\n\\nCall one or more functions.\\n<tools>' }}
{%- for tool in tools %}{{ '\\n' ~ (tool | tojson) }}{% endfor %}
{{- '\\n</tools>' }}
{%- endif -%}
{{- '<|im_end|>\\n' }}
{%- endmacro -%}
{%- macro calls(m) -%}
{%- for call in m.tool_calls -%}
{%- set f = call.function if call.function is defined else call -%}
{{- '\\n<tool_call>\\n{"name": "' + f.name + '", "arguments": ' + (f.arguments | tojson) + '}\\n</tool_call>' -}}
{%- endfor -%}
{%- endmacro -%}
{%- macro response(m) -%}
{%- if loop_first or messages[at - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif -%}
{%- endmacro -%}
"""

QWEN25 = (
    "{%- set default_system = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' -%}"
    + _QWEN_TOOLS.split("{%- macro response")[0]
    + """
{{- opening() }}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) or (m.role == 'assistant' and not m.tool_calls) %}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
{%- elif m.role == 'assistant' %}
{{- '<|im_start|>assistant' }}{% if m.content %}{{ '\\n' + m.content }}{% endif %}{{ calls(m) + '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + m.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
)

QWEN3 = (
    _QWEN_TOOLS.split("{%- macro response")[0]
    + """
{%- if tools or messages[0].role == 'system' %}{% set default_system = '' %}{{ opening() }}{% endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for m in messages[::-1] %}
{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.searching and m.role == 'user' and m.content is string
   and not (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}
{%- set ns.searching = false %}{% set ns.last = index %}
{%- endif %}
{%- endfor %}
{%- for m in messages %}
{%- set content = m.content if m.content is string else '' %}
{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}
{%- elif m.role == 'assistant' %}
{%- set thought = '' %}
{%- if m.reasoning_content is string %}{% set thought = m.reasoning_content %}
{%- elif '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.index0 > ns.last and (loop.last or thought) %}
{{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}
{{- '<|im_start|>assistant\\n' + content }}
{%- endif %}
{%- if m.tool_calls %}{{ calls(m) }}{% endif %}{{ '<|im_end|>\\n' }}
{%- elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
)

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}
{%- if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}
{%- else %}{% set date_string = '26 Jul 2024' %}{% endif %}
{%- endif %}
{%- if messages[0].role == 'system' %}{% set system = messages[0].content | trim %}{% set messages = messages[1:] %}
{%- else %}{% set system = '' %}{% endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools %}{{ 'Environment: ipython\\n' }}{% endif %}
{{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' + date_string + '\\n\\n' + system + '<|eot_id|>' }}
{%- if tools %}
{%- set first = messages[0].content | trim %}{% set messages = messages[1:] %}
{{- '<|start_header_id|>user<|end_header_id|>\\n\\nFunctions:\\n\\n' }}
{%- for tool in tools %}{{ tool | tojson(indent=4) }}{{ '\\n\\n' }}{% endfor %}
{{- first + '<|eot_id|>' }}
{%- endif %}
{%- for m in messages %}
{%- if m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('This model only supports one tool call at once!') }}{% endif %}
{%- set f = m.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + f.name + '", "parameters": ' }}
{{- f.arguments | tojson }}{{ '}<|eot_id|>' }}
{%- elif m.role == 'tool' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
{%- if m.content is mapping or m.content is iterable %}{{ m.content | tojson }}{% else %}{{ m.content }}{% endif %}
{{- '<|eot_id|>' }}
{%- else %}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

VICUNA = """{%- set opening = 'A chat between a curious user and an artificial intelligence assistant.' %}
{%- if messages[0].role == 'system' %}
{%- set opening = messages[0].content %}{% set messages = messages[1:] %}
{%- endif %}
{{- bos_token + opening }}
{%- for m in messages %}
{%- if m.role == 'user' %}{{ ' USER: ' + m.content | trim }}
{%- elif m.role == 'assistant' %}{{ ' ASSISTANT: ' + m.content | trim + eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"""

MISTRAL = """{{- bos_token }}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}
{%- elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}
{%- else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}
{%- endfor %}"""

MISTRAL_MERGED = """{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content %}{% set turns = messages[1:] %}
{%- else %}{% set turns = messages %}{% endif %}
{{- bos_token }}
{%- for m in turns %}
{%- if m.role == 'user' %}
{%- if loop.last and system is defined %}{{ '[INST] ' + system + '\\n\\n' + m.content + '[/INST]' }}
{%- else %}{{ '[INST] ' + m.content + '[/INST]' }}{% endif %}
{%- else %}{{ ' ' + m.content + eos_token }}{% endif %}
{%- endfor %}"""

GEMMA = """{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- set role = 'model' if m.role == 'assistant' else m.role %}
{{- '<start_of_turn>' + role + '\\n' + m.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

GEMMA3 = """{{- bos_token }}
{%- if messages[0].role == 'system' %}
{%- set first = messages[0].content if messages[0].content is string else messages[0].content[0].text %}
{%- set first = first + '\\n\\n' %}{% set turns = messages[1:] %}
{%- else %}{% set first = '' %}{% set turns = messages %}{% endif %}
{%- for m in turns %}
{%- set role = 'model' if m.role == 'assistant' else m.role %}
{{- '<start_of_turn>' + role + '\\n' + (first if loop.first else '') }}
{%- if m.content is string %}{{ m.content | trim }}
{%- elif m.content is iterable %}
{%- for part in m.content %}
{%- if part.type == 'image' %}{{ '<start_of_image>' }}{% elif part.type == 'text' %}{{ part.text | trim }}{% endif %}
{%- endfor %}
{%- else %}{{ raise_exception('Invalid content type') }}{% endif %}
{{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

QWEN2_VL = """{%- for m in messages %}
{%- if loop.first and m.role != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.content is string %}{{ m.content }}
{%- else %}
{%- for part in m.content %}
{%- if part.type == 'image' or 'image' in part %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' or 'video' in part %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- elif 'text' in part %}{{ part.text }}{% endif %}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAVA = """{%- for m in messages %}
{{- m.role | upper + ': ' }}
{%- for part in m.content | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}
{%- for part in m.content | selectattr('type', 'equalto', 'text') %}{{ part.text + ' ' }}{% endfor %}
{%- if m.role == 'assistant' %}{{ eos_token }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""


PHI3 = """{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

SMOLVLM = """<|im_start|>
{%- for m in messages %}{{ m.role | capitalize + (':' if m.content[0].type == 'image' else ': ') }}
{%- for part in m.content %}
{%- if part.type == 'text' %}{{ part.text }}{% elif part.type == 'image' %}{{ '<image>' }}{% endif %}
{%- endfor %}{{ '<end_of_utterance>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"""


@dataclass(frozen=True)
class Family:
    """A template, its special tokens (the first are added as such, `plain` ones are added words), and what is named.

    Special tokens take the space behind them if they are `strips_behind`.
    """

    template: str
    special: tuple[str, ...]
    bos: str | None
    eos: str
    plain: tuple[str, ...] = ()
    is_pieces: bool = False
    prefixes_first_only: bool = False
    strips_behind: bool = False


_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_VISION = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_QWEN_WORDS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

FAMILIES = {
    "chatml": Family(CHATML, _IM, None, "<|im_end|>"),
    "generation": Family(CHATML_GENERATION, _IM, None, "<|im_end|>"),
    "long generation": Family(CHATML_LONG_GENERATION, _IM, None, "<|im_end|>"),
    "qwen2.5": Family(QWEN25, (*_IM, *_VISION), None, "<|im_end|>", _QWEN_WORDS[:2]),
    "qwen3": Family(QWEN3, (*_IM, *_VISION), None, "<|im_end|>", _QWEN_WORDS),
    "qwen2-vl": Family(QWEN2_VL, (*_IM, *_VISION), None, "<|im_end|>"),
    "llama3": Family(
        LLAMA3,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
            "<|eom_id|>",
        ),
        "<|begin_of_text|>",
        "<|eot_id|>",
    ),
    "vicuna": Family(VICUNA, ("<unk>", "<s>", "</s>"), "<s>", "</s>", is_pieces=True),
    "mistral": Family(MISTRAL, ("<unk>", "<s>", "</s>"), "<s>", "</s>", is_pieces=True, prefixes_first_only=True),
    "mistral merged": Family(
        MISTRAL_MERGED, ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"), "<s>", "</s>", is_pieces=True
    ),
    "gemma": Family(
        GEMMA,
        ("<unk>", "<bos>", "<eos>", "<pad>", "<start_of_turn>", "<end_of_turn>"),
        "<bos>",
        "<eos>",
        is_pieces=True,
    ),
    "gemma3": Family(
        GEMMA3,
        ("<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"),
        "<bos>",
        "<eos>",
        is_pieces=True,
    ),
    "phi3": Family(
        PHI3,
        ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        None,
        "<|endoftext|>",
        strips_behind=True,
    ),
    "smolvlm": Family(SMOLVLM, (*_IM, "<image>", "<end_of_utterance>"), None, "<end_of_utterance>"),
    "llava": Family(LLAVA, ("<unk>", "<s>", "</s>", "<image>"), "<s>", "</s>", is_pieces=True),
}


def write_folder(folder: Path, family: Family, **config: Any) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json; `config` changes keys of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = _pieces(family) if family.is_pieces else _bytes()
    backend.add_special_tokens(
        [AddedToken(name, special=True, normalized=False, rstrip=family.strips_behind) for name in family.special]
    )
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in family.plain])
    backend.save(str(folder / "tokenizer.json"))
    values = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": family.bos,
        "eos_token": family.eos,
        "chat_template": family.template,
        "clean_up_tokenization_spaces": False,
        **config,
    }
    values = {key: value for key, value in values.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(values))
    return folder


def _bytes() -> Backend:
    """Byte-level BPE with the pattern of GPT-4's kind, which joins line breaks."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_pattern(), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    _train(backend, [], sorted(pre_tokenizers.ByteLevel.alphabet()))
    return backend


def _pattern() -> Any:
    from tokenizers import Regex

    return Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def _pieces(family: Family) -> Backend:
    """BPE over pieces with a space for the first, as converted SentencePiece models have it."""
    backend = Backend(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if family.prefixes_first_only:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    given, backend.pre_tokenizer = backend.pre_tokenizer, pre_tokenizers.Metaspace(prepend_scheme="never")
    _train(backend, ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))], [])
    backend.pre_tokenizer = given
    values = json.loads(backend.to_str())
    values["added_tokens"] = []  # Pieces for bytes are words like others.
    return Backend.from_str(json.dumps(values))


def _train(backend: Backend, first: Sequence[str], alphabet: Sequence[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=list(first), initial_alphabet=list(alphabet), show_progress=False
    )
    backend.train_from_iterator([*_TEXTS, "\n\n", "\n\n\n"], trainer)

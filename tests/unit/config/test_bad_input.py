"""Every kind of bad input is answered with what, where, got, expected and remedy."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.config import check_files, known_keys, load_config
from counterpoint.config.yaml_text import parse_yaml
from counterpoint.errors import ConfigError, DataError

# override, path, got, expected, remedy
BAD_VALUES = [
    (
        "modules.vision.layot={tp: 2}",
        "modules.vision.layot",
        "an unknown key",
        "layout",
        "did you mean layout?",
    ),
    ("steps=5", "steps", "an unknown key", "training", "did you mean training.steps?"),
    ("frobnicate=5", "frobnicate", "an unknown key", "training", "remove it"),
    (
        "modules.vision.model.vocab=5",
        "modules.vision.model.vocab",
        "an unknown key",
        "patch",
        "of another kind have it",
    ),
    (
        "modules.vision.optimizer.groups=[{match: '*', momentum: 0.9}]",
        "modules.vision.optimizer.groups.0.momentum",
        "an unknown key",
        "weight_decay",
        "of another kind have it",
    ),
    ("training.precision.compute=fp16", "training.precision.compute", '"fp16"', "float32", "did you mean bfloat16?"),
    ("training.precision.compute=fp32", "training.precision.compute", '"fp32"', "float32", "did you mean float32?"),
    ("run.device=gpu", "run.device", '"gpu"', '"cuda"', "did you mean cuda?"),
    (
        "modules.vision.optimizer.learning_rate=1",
        "modules.vision.optimizer.learning_rate",
        "an unknown key",
        "lr",
        "lr?",
    ),
    (
        "modules.vision.layout.tensor_parallel=2",
        "modules.vision.layout.tensor_parallel",
        "an unknown",
        "tp",
        "mean tp?",
    ),
    ("log.recorders=null", "log.recorders", "null", "a list", 'the default, [{"kind": "tensorboard"}]'),
    (
        "log.recorders=[{kind: csv}, {kind: csv}]",
        "log.recorders.1",
        "the same csv again",
        "a recorder other than log.recorders.0",
        "leave one",
    ),
    ("modules.vision.model.layers=three", "modules.vision.model.layers", '"three"', "an integer", "correct"),
    ("modules.vision.model.layers=3.0", "modules.vision.model.layers", "3.0", "an integer", "correct"),
    ("run.seed=true", "run.seed", "true", "an integer", "the default, 0"),
    ("run.seed=-1", "run.seed", "-1", "at least 0", "the default, 0"),
    ("run.deterministic=yes", "run.deterministic", '"yes"', "true or false", "the default, false"),
    ("run.dir=12", "run.dir", "12", "text", "put it in quotes"),
    ("run.dir=", "run.dir", "null", "text", "correct"),
    ("run.dir=''", "run.dir", '""', "text that is not empty", "correct"),
    ("world=null", "world", "null", "a section of keys", "correct"),
    ("world={}", "world.size", "nothing", "a value", "add the key size"),
    ("world.size=0", "world.size", "0", "at least 1", "correct"),
    ("modules=[1]", "modules", "[1]", "a mapping of names", "correct"),
    ("modules={}", "modules", "{}", "1 or more entries", "correct"),
    ("modules.Vision.train=all", "modules.Vision", '"Vision"', "a module name of lowercase", "correct"),
    ("modules.vision.model.kind=vti", "modules.vision.model.kind", '"vti"', '"vit"', "did you mean vit?"),
    ("modules.vision.model={layers: 3}", "modules.vision.model.kind", "nothing", "kind", "add the key kind"),
    ("modules.vision.layout.split=[1, a]", "modules.vision.layout.split.1", '"a"', "an integer", "correct"),
    (
        "modules.vision.layout.split=evn",
        "modules.vision.layout.split",
        '"evn"',
        "a list",
        "did you mean even?",
    ),
    (
        "modules.language.model.vocab=token",
        "modules.language.model.vocab",
        '"token"',
        "an integer or",
        "tokenizer?",
    ),
    (
        "modules.language.model.pattern=*x",
        "modules.language.model.pattern",
        '"*x"',
        "a letter of *,",
        "correct",
    ),
    ("modules.vision.optimizer.lr=fast", "modules.vision.optimizer.lr", '"fast"', "a number", "correct"),
    ("modules.vision.optimizer.lr=0", "modules.vision.optimizer.lr", "0", "more than 0", "correct"),
    (
        "modules.vision.optimizer.betas=[0.9]",
        "modules.vision.optimizer.betas.1",
        "nothing",
        "a value",
        "add the entry",
    ),
    (
        "modules.vision.optimizer.schedule=cosine",
        "modules.vision.optimizer.schedule",
        '"cosine"',
        "a section",
        "leave",
    ),
    ("training.clip_norm=1e999", "training.clip_norm", "Infinity", "a finite number", "the default, 1.0"),
    ("schedule.kind=1F1B", "schedule.kind", '"1F1B"', '"1f1b"', "did you mean 1f1b?"),
    ("data.train=[]", "data.train", "[]", "1 or more entries", "correct"),
    ("data.train=[{}]", "data.train.0.path", "nothing", "a value", "add the key path"),
    (
        "data.train=[{synthetic: {}}]",
        "data.train.0.synthetic.documents",
        "nothing",
        "a value",
        "add the key documents",
    ),
    ("data.train.0.weigth=2", "data.train.0.weigth", "an unknown key", "weight", "did you mean weight?"),
    ("schema=2", "schema", "2", "1", "correct"),
]

MISFITS = [
    (
        "modules.language.layout.tp=3",
        "modules.language.model.heads",
        "4",
        "a multiple of modules.language.layout.tp, 3",
        "choose a tp that divides it",
    ),
    ("modules.language.model.ffn=511", "modules.language.model.ffn", "511", "a multiple of", "choose a tp"),
    (
        "modules.language.model.kv_heads=3",
        "modules.language.model.kv_heads",
        "3",
        "a divisor of",
        "change one",
    ),
    (
        "modules.language.model.hidden=130",
        "modules.language.model.hidden",
        "130",
        "a multiple of",
        "head_dim",
    ),
    ("modules.vision.model.hidden=130", "modules.vision.model.hidden", "130", "a multiple of", "change one"),
    (
        "modules.language.model.head_dim=7",
        "modules.language.model.head_dim",
        "7",
        "an even width",
        "rope_theta",
    ),
    (
        "modules.vision.layout.pp=4",
        "modules.vision.layout.pp",
        "4 stages for 2 layers",
        "at least one layer",
        "lower pp",
    ),
    (
        "modules.vision.layout.split=[2, 2]",
        "modules.vision.layout.split",
        "4 layers in 2",
        "2 layers in 1",
        "change the",
    ),
    ("modules.vision.layout.cp=3", "modules.vision.model.heads", "4", "a multiple of", "choose a cp"),
    ("modules.vision.layout.expert.ep=2", "modules.vision.layout.expert.ep", "2", "no layer of experts", "leave"),
    ("modules.vision.layout.expert.etp=2", "modules.vision.layout.expert.etp", "2", "no layer of experts", "leave"),
    ("modules.language.model.pattern=*-M", "modules.language.model.mamba", "nothing", "the letter M", "add it"),
    ("modules.language.model.pattern=*-E", "modules.language.model.moe", "nothing", "the letter E", "add it"),
    ("modules.language.model.ffn=null", "modules.language.model.ffn", "nothing", "the letter -", "add it"),
    (
        "modules.language.model.rope_sections=[1, 2, 3]",
        "modules.language.model.rope_sections",
        "6 pairs in all",
        "the 16 pairs of a head of width 32",
        "change the list",
    ),
    (
        "modules.language.model.rope_interleaved=true",
        "modules.language.model.rope_interleaved",
        "true",
        "false, because modules.language.model.rope_sections is null",
        "change one",
    ),
    ("edges=[]", "edges", "0 edges from the module vision", "at least one", "add {source: vision"),
    ("edges.0.source=visoin", "edges.0.source", '"visoin"', "one of the modules", "did you mean vision?"),
    ("edges.0.source=audio", "edges.0.source", '"audio"', "one of the modules", "add the module"),
    ("edges.0.target=vision", "edges.0.target", "kind vit", "kind decoder", "turn the edge"),
    ("modules.vision.model.image.size=8", "modules.vision.model.image.size", "8 pixels", "at least 36", "raise it"),
    ("modules.vision.model.merge=7", "modules.vision.model.image.max_patches", "16", "at least 49", "lower merge"),
    ("data.tokenizer=null", "data.tokenizer", "nothing", "a file", "give the file"),
    ("schedule.microbatches=65", "schedule.microbatches", "65", "at most", "lower it"),
    (
        "training.precision.parameters=bfloat16",
        "training.precision",
        "bfloat16/float32/float32",
        "float32/bfloat16/float32",
        "choose one",
    ),
    (
        "modules.vision.optimizer.schedule.decay_steps=50",
        "modules.vision.optimizer.schedule.decay_steps",
        "50",
        "more than warmup_steps, 50",
        "raise it",
    ),
]

EXPERTS = {
    "pattern": "*ME", "mamba": {"heads": 8, "head_dim": 4, "groups": 4, "state": 4},
    "moe": {"experts": 6, "top_k": 2, "ffn": 9, "shared_ffn": 8},
}  # fmt: skip

BAD_HYBRIDS = [
    ("model.moe.top_k=7", "model.moe.top_k", "7", "at most modules.language.model.moe.experts, 6", "change one"),
    ("model.mamba.groups=3", "model.mamba.groups", "3", "a divisor of modules.language.model.mamba.heads", "change"),
    ("layout.tp=8", "model.mamba.groups", "4", "a multiple of modules.language.layout.tp, 8", "choose a tp"),
    ("layout.cp=3", "model.mamba.heads", "8", "a multiple of modules.language.layout.tp x cp, 1 x 3", "choose a cp"),
    ("layout.expert={ep: 4}", "model.moe.experts", "6", "modules.language.layout.expert.ep, 4", "choose an ep"),
    ("layout.expert={etp: 2}", "model.moe.ffn", "9", "modules.language.layout.expert.etp, 2", "choose an etp"),
]

LATER = [
    (
        "modules.vision.layout.chunks=4",
        "modules.vision.layout.chunks",
        "4 stages for 2",
        "at least one layer",
        "lower pp",
    ),
    ("modules.language.layout.chunks=2", "modules.language.layout.chunks", "pp 1 and tied", "both copies", "untie"),
    (
        "modules.language.model.mtp={pattern: E}",
        "modules.language.model.moe",
        "nothing",
        "it, because modules.language.model.mtp.pattern has the letter E",
        "add it",
    ),
    (
        "modules.language.model.mtp={depths: 0, pattern: '*'}",
        "modules.language.model.mtp.depths",
        "0",
        "at least 1",
        "correct",
    ),
    (
        "modules.language.model.mtp={pattern: '*x'}",
        "modules.language.model.mtp.pattern",
        '"*x"',
        "a letter of *, -, M and E",
        "correct",
    ),
    (
        "modules.language.model.mtp={pattern: '*', weight: 0.0}",
        "modules.language.model.mtp.weight",
        "0.0",
        "more than 0",
        "correct",
    ),
    ("modules.vision.recompute=[M]", "modules.vision.recompute.0", '"M"', "a kind of its layers, L", "remove it"),
    ("modules.vision.train=[]", "modules.vision.train", "[]", "all, none or patterns", "write none to freeze it"),
    (
        "modules.vision.recompute=[norm]",
        "modules.vision.recompute.0",
        "norm",
        "L, or norms, activations or convs",
        "rem",
    ),
    ("modules.vision.recompute_keeps=[scan]", "modules.vision.recompute_keeps.0", "scan", "attention", "correct"),
    (
        "modules.vision.recompute_keeps=[attention]",
        "modules.vision.recompute_keeps",
        "attention",
        "nothing, bec",
        "out",
    ),
    ("modules.vision.recompute=[]", "modules.vision.recompute", "[]", "1 or more entries", "correct"),
    ("modules.vision.init_from=./runs/emoji", "modules.vision.init_from.path", "emoji", "outside run.dir", "resume"),
    ("modules.vision.init_from=runs/emoji/checkpoints/step-1", "modules.vision.init_from.path", "st", "outside", "or"),
    ("modules.vision.init_from=a/../runs/emoji", "modules.vision.init_from.path", "a/../runs/emoji", "outside", "or"),
    (
        "modules.vision.init_from=runs/other/../emoji/checkpoints",
        "modules.vision.init_from.path",
        "other",
        "outside run.dir",
        "or",
    ),
    (
        "modules.vision.model.projector.norm_eps=1.0e-5",
        "modules.vision.model.projector.norm_eps",
        "1e-05",
        "the default, 1e-06, because there is no norm",
        "leave it out or give it a norm",
    ),
    ("modules.vision.init_from={path: a, frsh: []}", "modules.vision.init_from.frsh", "unknown", "fresh", "fresh?"),
    ("modules.vision.init_from={fresh: [a]}", "modules.vision.init_from.path", "nothing", "a value", "add the key"),
    ("modules.vision.init_from=5", "modules.vision.init_from", "5", "a section of keys", "correct"),
    ("schedule.kind=interleaved", "schedule.kind", '"interleaved"', "a module with chunks", "take 1f1b"),
    ("schedule.encoder_group=3", "schedule.encoder_group", "3", "at most schedule.microbatches, 2", "lower it"),
    ("schedule.run_ahead=1", "schedule.run_ahead", "1", "an encoder with train: none", "freeze one"),
    ("schedule={encoder: first, buffer: 2}", "schedule.buffer", "2", "encoders run first", "leave it out"),
    ("schedule={kind: gpipe, buffer: 2}", "schedule.buffer", "2", "null, because gpipe keeps all", "leave it out"),
]

BAD_ARGUMENTS = [
    ("foo", "foo", "no key with a value", "key.path=value", "training.steps=100"),
    ("run..seed=1", "run..seed=1", "no key with a value", "key.path=value", "training.steps=100"),
    ("run.dir.x=1", "run.dir.x", '"x" below the plain value', "the path of a key", "correct the path"),
    ("data.train.3.weight=1", "data.train.3.weight", '"3" as an index of a list of 1', "the path", "correct"),
    ("modules.vision.layout.tp={", "modules.vision.layout.tp", '"{"', "a YAML value", "quote"),
    ("--encoder-tp=2", "--encoder-tp=2", "a Megatron name", "a key of ours", "modules.vision.layout.tp=2"),
    ("--llm-dp", "--llm-dp", "a Megatron name", "a key of ours", "modules.language.layout.dp_shard"),
    ("eval_interval=5", "eval_interval=5", "a Megatron name", "a key of ours", "evaluation.every_steps=5"),
    ("--image-token-id=3", "--image-token-id=3", "a Megatron name", "a key of ours", "prepared index"),
]

EMOJI = parse_yaml((Path(__file__).parents[3] / "examples" / "emoji.yaml").read_text())
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def _with(tree: Any, path: list[str], value: object) -> Any:
    """A copy of plain data with a value at a path; lists are entered at their first entry."""
    if not path:
        return value
    if isinstance(tree, list):
        return [_with(tree[0], path[1:], value)]
    inner = tree if isinstance(tree, dict) else {}
    name = "vision" if path[0] == "*" else path[0]
    return {**inner, name: _with(inner.get(name), path[1:], value)}


@settings(deadline=None, max_examples=300)
@given(key=st.sampled_from(sorted(known_keys())), value=PLAIN)
def test_any_value_at_any_key_is_read_or_answered(key: str, value: object) -> None:
    message = ""
    try:
        load_config(_with(EMOJI, key.split("."), value))
    except ConfigError as error:
        message = str(error)
    assert all(": got " in line and ", expected " in line and "; " in line for line in message.splitlines())


@pytest.mark.parametrize(
    ("override", "path", "got", "expected", "remedy"), [*BAD_VALUES, *MISFITS, *LATER, *BAD_ARGUMENTS]
)
def test_one_sentence_says_all(
    emoji: dict[str, Any], override: str, path: str, got: str, expected: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(emoji, [override])
    lines = str(caught.value).splitlines()
    line = next(line for line in lines if line.startswith(f"{path}: got "))
    found, rest = line.removeprefix(f"{path}: got ").split(", expected ", 1)
    wanted, cure = rest.rsplit("; ", 1) if "Megatron" not in found else rest.split("; ", 1)
    assert got in found
    assert expected in wanted
    assert remedy in cure


def test_too_many_pairs_cannot_take_turns(emoji: dict[str, Any]) -> None:
    emoji["modules"]["language"]["model"]["rope_interleaved"] = True
    load_config(emoji, ["modules.language.model.rope_sections=[6, 5, 5]"])
    with pytest.raises(ConfigError, match=r"rope_sections: got \[4, 6, 6\], expected at most a third of the pairs"):
        load_config(emoji, ["modules.language.model.rope_sections=[4, 6, 6]"])


@pytest.mark.parametrize(("override", "path", "got", "expected", "remedy"), BAD_HYBRIDS)
def test_what_a_hybrid_cannot_do_is_one_sentence(
    emoji: dict[str, Any], override: str, path: str, got: str, expected: str, remedy: str
) -> None:
    emoji["modules"]["language"]["model"] |= EXPERTS | {"heads": 24, "kv_heads": 24, "head_dim": 4}
    emoji["modules"]["language"]["layout"] = {"ranks": [2, 3]}
    with pytest.raises(ConfigError) as caught:
        load_config(emoji, [f"modules.language.{override}"])
    (line,) = (text for text in str(caught.value).splitlines() if text.startswith(f"modules.language.{path}: got "))
    assert f"got {got}" in line
    assert expected in line
    assert remedy in line.rsplit("; ", 1)[1]


def test_every_problem_has_its_own_line(emoji: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(emoji, ["run.seed=-1", "world.size=x", "training.stepz=3"])
    paths = {line.split(": ")[0] for line in str(caught.value).splitlines()}
    assert paths == {"run.seed", "world.size", "training.stepz"}


def test_one_rank_has_no_copy_of_its_own_words(emoji: dict[str, Any]) -> None:
    emoji["modules"]["language"]["model"] |= {"tied": False, "mtp": {"pattern": "*"}}
    with pytest.raises(ConfigError) as caught:
        load_config(emoji, ["modules.language.layout.chunks=2"])
    assert str(caught.value).startswith(
        "modules.language.layout.chunks: got 2 with pp 1 and multi-token prediction, expected 1, because both copies"
    )
    assert str(caught.value).endswith("; leave it out, raise pp or leave model.mtp out")


def test_a_link_into_the_run_is_no_other_folder(emoji: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    emoji["run"]["dir"] = str(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"vision\.init_from\.path: got .*expected a folder outside run\.dir"):
        load_config(emoji, [f"modules.vision.init_from={tmp_path / 'link' / 'checkpoints'}"])


def test_misfits_are_listed_together(emoji: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(emoji, ["modules.vision.recompute=[M]", "data.tokenizer=null", "schedule.microbatches=65"])
    assert len(str(caught.value).splitlines()) == 3


def test_a_language_model_alone_reads_no_images(emoji: dict[str, Any]) -> None:
    del emoji["modules"]["vision"]
    emoji["edges"] = []
    assert list(load_config(emoji).modules) == ["language"]


def test_synthetic_images_need_a_module(emoji: dict[str, Any]) -> None:
    del emoji["modules"]["vision"]
    emoji["edges"] = []
    tokens, images = "{kind: constant, value: 9}", "{kind: uniform, low: 2, high: 1}"
    source = f"data.train=[{{synthetic: {{documents: 3, text_tokens: {tokens}, images_per_document: {images}}}}}]"
    with pytest.raises(ConfigError) as caught:
        load_config(emoji, [source])
    paths = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    where = "data.train.0.synthetic.images_per_document"
    assert paths == [f"{where}.low", where]


def test_there_is_one_language_model(emoji: dict[str, Any]) -> None:
    emoji["modules"]["second"] = emoji["modules"]["language"]
    with pytest.raises(ConfigError, match="modules: got 2 modules of kind decoder"):
        load_config(emoji)


def test_an_edge_stands_once(emoji: dict[str, Any]) -> None:
    emoji["edges"] *= 2
    with pytest.raises(ConfigError, match=r"^edges: got 2 edges from vision to language, expected one"):
        load_config(emoji)


def test_a_megatron_key_in_a_file_is_answered_with_ours(emoji: dict[str, Any]) -> None:
    emoji["training"]["tensor_model_parallel_size"] = 2
    with pytest.raises(ConfigError, match=r"modules\.\*\.layout\.tp"):
        load_config(emoji)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("run: {dir: a}\nrun: {dir: b}\n", ":2: got the key run is given twice, expected valid YAML"),
        ("run: {dir: a\nworld: 3\n", ":2: got "),
        ("run: &a {dir: *a\n", ": got "),
        ("- 1\n", "got [1], expected a mapping of sections"),
        ("", "got null, expected a mapping of sections"),
        ("run: !!python/name:os.system x\n", ":1: got the tag tag:yaml.org,2002:python/name:os.system, expected"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got no readable file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="got a directory"):
        load_config(str(tmp_path))


def test_binary_is_no_config(tmp_path: Path) -> None:
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)


def test_missing_files_are_listed(emoji: dict[str, Any], tmp_path: Path) -> None:
    places = ("data.train.0.path", "data.evaluation.0.path", "data.tokenizer")
    config = load_config(emoji, [f"{place}={tmp_path}/no" for place in places])
    with pytest.raises(DataError) as caught:
        check_files(config)
    lines = str(caught.value).splitlines()
    assert tuple(line.split(": ")[0] for line in lines) == places
    assert f"counterpoint prepare SOURCE {tmp_path}/no" in lines[0]

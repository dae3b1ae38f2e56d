"""An encoder starts from a checkpoint of Megatron, whatever its form, or is refused in one sentence that says why."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from counterpoint.config.schema import InitFromConfig
from counterpoint.errors import CheckpointError, ConfigError, DamagedCheckpointError, InputError
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.models.chain import build_chain
from counterpoint.parallelize.blocks import whole_block
from counterpoint.train.warm.start import WarmStart
from tests.parity.often import often
from tests.unit.models.model_samples import sample
from tests.unit.train.warm.megatron_folders import (
    DECOYS,
    HEAD,
    HEADS,
    HIDDEN,
    LAYERS,
    PREFIX,
    Named,
    as_megatron,
    random_encoder,
    stacked,
    tower,
    write_chunks,
    write_torch_dist,
    write_whole,
)

FRESH = ("projector.*",)


def _start(path: Path, model: Model | None = None, **init: Any) -> WarmStart:
    keys = {"path": str(path), "fresh": FRESH} | init
    return WarmStart("vision", tower() if model is None else model, InitFromConfig.model_validate(keys))


def _loaded(start: WarmStart) -> Named:
    """All of a module's tensors that a start gives, in its dtype float64."""
    values, fresh = start.open()
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build_chain(parts_of(start.model)).state_dict().items()}
    whole = {name: torch.full(shape, torch.nan, dtype=torch.float64) for name, shape in shapes.items()}
    values.fill({n: (whole_block(n, tuple(t.shape)), t) for n, t in whole.items() if n not in fresh})
    return {name: tensor for name, tensor in whole.items() if name not in fresh}


def _expected(theirs: Mapping[str, Tensor]) -> Named:
    """Our tensors by hand."""
    at = "radio_model.model.patch_generator."
    made = {
        "embed.prefix.weight": theirs[f"{at}cls_token.token"],
        "embed.positions.weight": theirs[f"{at}pos_embed"][0],
        "embed.patch.weight": theirs[f"{at}embedder.weight"],
    }
    names = {"attention_norm": "norm1", "attention.o": "attn.proj", "mlp_norm": "norm2", "mlp.up": "mlp.fc1"}
    for layer in range(LAYERS):
        for kind in ("weight", "bias"):
            block = f"radio_model.model.blocks.{layer}."
            for which, one in enumerate("qkv"):
                rows = slice(which * HIDDEN, (which + 1) * HIDDEN)
                made[f"layers.{layer}.attention.{one}.{kind}"] = theirs[f"{block}attn.qkv.{kind}"][rows]
            for ours, other in (names | {"mlp.down": "mlp.fc2"}).items():
                made[f"layers.{layer}.{ours}.{kind}"] = theirs[f"{block}{other}.{kind}"]
    return made


def _demand(found: Named, expected: Named) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(found[name], tensor.double())] == []


FORMS: Mapping[str, Callable[[Path, Named], Path]] = {
    "whole": lambda path, theirs: write_whole(path, as_megatron(theirs)),
    "own norms": lambda path, theirs: write_whole(path, as_megatron(theirs, own_norms=True)),
    "chunks of two ranks": lambda path, theirs: write_chunks(path, as_megatron(theirs)),
    "stacked": lambda path, theirs: write_whole(path, stacked(as_megatron(theirs)), "llava_model.vision_model."),
    "stacked in chunks": lambda path, theirs: write_chunks(path, stacked(as_megatron(theirs)), "vision_model."),
    "the example's own": lambda path, theirs: write_whole(
        path, as_megatron(theirs), "modality_submodules.images.encoders.radio_encoder.radio_model."
    ),
    "an iteration": lambda path, theirs: write_torch_dist(path, as_megatron(theirs)),
    "above an iteration": lambda path, theirs: write_torch_dist(path, as_megatron(theirs)).parent,
    "without a tracker": lambda path, theirs: write_torch_dist(path, as_megatron(theirs), tracker=None).parent,
}
"""How a checkpoint is written, and the path that is given."""


@pytest.mark.parametrize("form", often(FORMS, 2))
def test_every_form_gives_the_same_values(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    theirs = random_encoder()
    _demand(_loaded(_start(FORMS[form](tmp_path / "saved", theirs))), _expected(theirs))
    assert not (tmp_path / "planted").exists(), "no pickle in a checkpoint is opened"


@pytest.mark.parametrize("dtype", often([torch.bfloat16, torch.float16, torch.float32], 3))
def test_values_of_narrow_types_are_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = random_encoder(dtype)
    _demand(_loaded(_start(write_whole(tmp_path / "saved", as_megatron(theirs)))), _expected(theirs))


def test_thirds_in_place_of_interleaved_rows_are_other_values(tmp_path: Path) -> None:
    theirs = random_encoder()
    found = _loaded(_start(write_whole(tmp_path / "saved", as_megatron(theirs, thirds=True))))
    different = {name for name, tensor in _expected(theirs).items() if not torch.equal(found[name], tensor)}
    assert different == {
        f"layers.{i}.attention.{x}.{kind}" for i in range(LAYERS) for x in "qkv" for kind in ("weight", "bias")
    }


def _lines(start: WarmStart) -> tuple[str, ...]:
    return start.open()[0].lines


def test_what_is_loaded_and_what_no_file_says_is_told(tmp_path: Path) -> None:
    folder = write_torch_dist(tmp_path, as_megatron(random_encoder()))
    first, second = _lines(_start(tmp_path))
    assert first == (
        f"vision: 39 of 39 tensors from {folder}, below vision_model. (the iteration that "
        "latest_checkpointed_iteration.txt names)"
    )
    assert "does not say heads 4, activation gelu_tanh, norm_eps 1e-06" in second


def test_films_are_left_out_by_name_and_gelu_is_warned_of(tmp_path: Path) -> None:
    tensors = as_megatron(random_encoder()) | {"video_embedder.weight": torch.zeros(HIDDEN, 2 * 3 * 14**2)}
    write_whole(tmp_path / "saved", tensors)
    first, second, _third, fourth = _lines(_start(tmp_path / "saved", tower(activation="gelu")))
    assert first.startswith(f"vision: 39 of 40 tensors from {tmp_path / 'saved'}, below {PREFIX}")
    assert second == "vision: video_embedder.weight is left out: pictures do not use it"
    assert "warning: vision: activation is gelu, but Megatron computes gelu_tanh" in fourth
    assert "set modules.vision.model.activation=gelu_tanh" in fourth


def test_the_newest_complete_iteration_is_taken_without_a_tracker(tmp_path: Path) -> None:
    theirs = random_encoder()
    for iteration in (9, 10, 11):
        folder = write_torch_dist(tmp_path, as_megatron(theirs), iteration, tracker=None)
    next(folder.glob("*.distcp")).unlink()
    shutil.copytree(folder, tmp_path / "iter_junk")
    assert (
        f"{tmp_path / 'iter_0000010'}, below vision_model. (the newest complete one of 3" in _lines(_start(tmp_path))[0]
    )
    shutil.copytree(tmp_path / "iter_0000009", tmp_path / "release")
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("release")
    assert f"{tmp_path / 'release'}, below" in _lines(_start(tmp_path))[0]


def test_a_final_norm_is_ours_where_both_have_it(tmp_path: Path) -> None:
    theirs, norm = (
        random_encoder(),
        {f"decoder.final_layernorm.{x}": torch.rand(HIDDEN).double() for x in ("weight", "bias")},
    )
    write_whole(tmp_path / "saved", as_megatron(theirs) | norm)
    found = _loaded(_start(tmp_path / "saved", tower(final_norm=True)))
    ours = {f"norm.{x}": norm[f"decoder.final_layernorm.{x}"] for x in ("weight", "bias")}
    _demand(found, _expected(theirs) | ours)


def test_gains_that_megatron_lacks_are_ones(tmp_path: Path) -> None:
    theirs = random_encoder()
    write_whole(tmp_path / "saved", as_megatron(theirs), decoys=False)
    start = _start(tmp_path / "saved", tower(layer_scale=True))
    ones = {f"layers.{i}.{x}_scale.weight": torch.ones(HIDDEN) for i in range(LAYERS) for x in ("attention", "mlp")}
    _demand(_loaded(start), _expected(theirs) | ones)
    assert _lines(start)[0].startswith("vision: 39 of 39 tensors from ")


def test_skip_leaves_out_theirs_and_fresh_begins_ours_anew(tmp_path: Path) -> None:
    theirs = random_encoder()
    extra = {"mask_token": torch.ones(HIDDEN), "ln_post.weight": torch.ones(HIDDEN)}
    write_whole(tmp_path / "saved", as_megatron(theirs) | extra)
    skip = ("mask_token", f"{PREFIX}ln_post.*", "decoder.layers.2.*")
    found = _loaded(_start(tmp_path / "saved", skip=skip, fresh=(*FRESH, "layers.2.*")))
    _demand(found, {n: t for n, t in _expected(theirs).items() if not n.startswith("layers.2.")})
    assert (
        "init_from.skip leaves out " in _lines(_start(tmp_path / "saved", skip=skip, fresh=(*FRESH, "layers.2.*")))[1]
    )


def _without(tensors: Named, *names: str) -> Named:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def _changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Named], Named]:
    return lambda tensors: tensors | {name: change(tensors[name])}


def _more(name: str, *shape: int) -> Callable[[Named], Named]:
    return lambda tensors: tensors | {name: torch.ones(shape)}


def _wider(tensors: Named) -> Named:
    """Twice the inner width of all MLPs."""
    dims = {"linear_fc1.weight": 0, "linear_fc1.bias": 0, "linear_fc2.weight": 1}
    by_name = {n: dims.get(".".join(n.split(".")[-2:])) for n in tensors}
    return {n: t if (dim := by_name[n]) is None else torch.cat([t, t], dim) for n, t in tensors.items()}


NORM, QKV = "decoder.layers.1.mlp.linear_fc1.layer_norm_bias", "decoder.layers.1.self_attention.linear_qkv.weight"
FC1, FC2 = (f"decoder.layers.0.mlp.linear_{one}.weight" for one in ("fc1", "fc2"))
CONTENT: Mapping[str, tuple[Callable[[Named], Named], Mapping[str, Any], str]] = {
    "missing norm": (lambda tensors: _without(tensors, NORM), {}, f"lacks {NORM} below {PREFIX}: "),
    "missing class token": (
        lambda tensors: _without(tensors, "class_token"),
        {"prefix": "model.vision_model"},
        f"lacks class_token below {PREFIX}",
    ),
    "missing layer": (
        lambda tensors: {n: t for n, t in tensors.items() if ".1." not in n},
        {},
        "lacks decoder.layers.1.mlp.linear_fc1.bias, ",
    ),
    "missing and unknown": (
        lambda tensors: _without(_more("ln_pre.weight", HIDDEN)(tensors), NORM),
        {},
        f"lacks {NORM} and has the unknown ln_pre.weight below {PREFIX}: choose another, or name what begins anew in "
        "init_from.fresh and what is not to be read in init_from.skip",
    ),
    "norm after all layers of another variant": (
        _more("ln_post.weight", HIDDEN),
        {},
        "has the unknown ln_post.weight below",
    ),
    "bias of the embedder": (_more("embedder.bias", HIDDEN), {}, "has the unknown embedder.bias below"),
    "mask token": (_more("mask_token", HIDDEN), {}, "has the unknown mask_token below"),
    "both spellings of a norm": (
        _more("decoder.layers.0.input_layernorm.weight", HIDDEN),
        {},
        "has the unknown decoder.layers.0.mlp.",
    ),
    "padded class tokens": (
        _changed("class_token", lambda t: torch.cat([torch.rand(6, HIDDEN, dtype=t.dtype), t])),
        {},
        "modules.vision.model.prefix: got 10, expected 16, as ",
    ),
    "swapped matrix": (
        _changed(FC1, lambda t: t.T.contiguous()),
        {},
        f"has {FC1} of shape (32, 64), expected (64, 32)",
    ),
    "short fused matrix": (_changed(QKV, lambda t: t[:-1]), {}, f"has {QKV} of shape (95, 32), expected (96, 32)"),
    "gated MLP": (
        _changed(FC1, lambda t: torch.cat([t, t])),
        {},
        "with 128 rows, twice the columns of mlp.linear_fc2.weight",
    ),
    "wider MLP": (
        _wider,
        {},
        "modules.vision.model.ffn: got 64, expected 128, as ",
    ),
    "norm after all layers": (
        lambda tensors: tensors | {f"decoder.final_layernorm.{x}": torch.ones(HIDDEN) for x in ("weight", "bias")},
        {},
        "modules.vision.model.final_norm: got false, expected true, as ",
    ),
    "embedder of films": (
        _changed("embedder.weight", lambda t: torch.cat([t, t], 1)),
        {},
        "with 1176 columns, 2 times those of a picture's patch",
    ),
    "other patch": (
        _changed("embedder.weight", lambda t: t[:, : 3 * 16].contiguous()),
        {},
        "modules.vision.model.patch: got 14, expected 4",
    ),
    "no square of positions": (
        _changed("position_embeddings", lambda t: t[:, :15].contiguous()),
        {},
        "position_embeddings of 15 entries, expected",
    ),
    "other square of positions": (
        _changed("position_embeddings", lambda t: t[:, :9].contiguous()),
        {},
        "modules.vision.model.positions: got 4, expected 3",
    ),
    "integers": (
        _changed(NORM, lambda t: t.to(torch.int8)),
        {},
        f"{PREFIX}{NORM} is of type int8, expected one of float64",
    ),
    "flat class token": (
        _changed("class_token", lambda t: t.flatten()),
        {},
        "has class_token of shape (320,), expected",
    ),
    "wrong prefix": (
        lambda tensors: tensors,
        {"prefix": "vision_model."},
        'prefix: got "vision_model.", expected one under which',
    ),
    "wrong prefix, with candidates": (
        lambda tensors: tensors,
        {"prefix": "llava_model.vision_model"},
        f"with a class_token; there is {PREFIX}; correct it",
    ),
    "prefix of a decoy": (
        lambda tensors: tensors,
        {"prefix": "model.language_model"},
        "lacks class_token below model.",
    ),
    "pattern that fits nothing": (
        lambda tensors: tensors,
        {"skip": ["ln_pst.*"]},
        'skip.0: got "ln_pst.*", expected a pattern',
    ),
    "fresh that fits nothing": (
        lambda tensors: tensors,
        {"fresh": ["projetcor.*"]},
        'fresh.0: got "projetcor.*", expected',
    ),
    "a name of a module": (
        lambda tensors: tensors,
        {"module": "vision"},
        'module: got "vision" with a checkpoint of another',
    ),
    "a projector that no file has": (
        lambda tensors: tensors,
        {"fresh": []},
        "has no place for projector.linear.weight",
    ),
}


@pytest.mark.parametrize("defect", often(CONTENT, 3))
def test_defects_of_content_are_named(defect: str, tmp_path: Path) -> None:
    change, init, words = CONTENT[defect]
    write_whole(tmp_path / "saved", change(as_megatron(random_encoder())), decoys=defect == "prefix of a decoy")
    with pytest.raises(InputError) as caught:
        _start(tmp_path / "saved", **init).open()
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("keys", "words"),
    often(
        [
            ({"fit": "stretch"}, 'model.fit: got "stretch", expected "crop", as '),
            ({"patch_bias": True}, "model.patch_bias: got true, expected false, as "),
            ({"layers": 2}, "model.layers: got 2, expected 3, as "),
            ({"norm": "rms"}, 'model.norm: got "rms", expected "layer", as '),
            ({"activation": "swiglu"}, 'model.activation: got "swiglu", expected "gelu_tanh", as '),
            ({"final_norm": True}, "model.final_norm: got true, expected false, as "),
            ({"hidden": 64}, "model.hidden: got 64, expected 32, as "),
            ({"channels": 1}, "model.channels: got 1, expected 3, as "),
            ({"frames": 2}, "model.frames: got 2, expected 1, as "),
        ],
        3,
    ),
)
def test_other_models_are_told_the_key_to_set(keys: Mapping[str, Any], words: str, tmp_path: Path) -> None:
    write_whole(tmp_path / "saved", as_megatron(random_encoder()))
    with pytest.raises(ConfigError) as caught:
        _start(tmp_path / "saved", tower(**keys)).open()
    assert words in str(caught.value)


def test_several_encoders_are_listed(tmp_path: Path) -> None:
    tensors = as_megatron(random_encoder())
    both = {f"{begin}{name}": tensor for begin in ("a.", "b.") for name, tensor in tensors.items()}
    write_whole(tmp_path / "saved", both, "", decoys=False)
    with pytest.raises(
        ConfigError, match=r"prefix: got nothing, with 2 encoders in .*, expected one of a\., b\.; name it"
    ):
        _start(tmp_path / "saved").open()
    assert _loaded(_start(tmp_path / "saved", prefix="b")).keys() == _expected(random_encoder()).keys()


def test_a_checkpoint_without_an_encoder_says_what_it_has(tmp_path: Path) -> None:
    write_whole(tmp_path / "saved", {"embedding.weight": torch.ones(3)}, "language.", decoys=False)
    with pytest.raises(CheckpointError, match=r"its 4 tensors begin with language; choose another"):
        _start(tmp_path / "saved").open()


def test_only_an_encoder_of_pictures_starts_from_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "saved", as_megatron(random_encoder()))
    decoder = sample("decoder", pattern="*-", hidden=8, heads=2, ffn=8, vocab=11)
    with pytest.raises(CheckpointError, match="from which a vit is read, got it for a decoder; choose another"):
        _start(tmp_path / "saved", decoder).open()


def _cut(folder: Path) -> None:
    file = next(folder.glob("*.distcp"))
    file.write_bytes(file.read_bytes()[:-1])


def _tear(folder: Path) -> None:
    (folder / ".metadata").write_bytes((folder / ".metadata").read_bytes()[:-9])


class _Planted:
    def __reduce__(self) -> Any:
        return os.mkdir, ("planted",)


FILES: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "cut file": (_cut, " or more, expected a complete checkpoint"),
    "lost file": (lambda folder: next(folder.glob("*.distcp")).unlink(), "cannot be read (No such file or directory)"),
    "torn metadata": (_tear, "no readable checkpoint metadata ("),
    "planted code": (
        lambda folder: (folder / ".metadata").write_bytes(pickle.dumps(_Planted())),
        "mkdir, which no tensor is made of",
    ),
    "another format": (
        lambda folder: (folder / "metadata.json").write_text(json.dumps({"sharded_backend": "zarr"})),
        'got sharded_backend "zarr", expected one of torch_dist',
    ),
    "format of junk": (
        lambda folder: (folder / "metadata.json").write_text("[]"),
        "metadata.json holds no keys and values",
    ),
    "tracker of junk": (
        lambda folder: (folder.parent / "latest_checkpointed_iteration.txt").write_text("newest"),
        'got "newest", expected the number of an iteration or',
    ),
    "tracker that names another": (
        lambda folder: (folder.parent / "latest_checkpointed_iteration.txt").write_text("43"),
        "iter_0000043: no .metadata, expected a torch.distributed.checkpoint",
    ),
    "no iteration": (lambda folder: shutil.rmtree(folder), "save it with --ckpt-format torch_dist, or choose another"),
}


@pytest.mark.parametrize("defect", often(FILES, 3))
def test_defects_of_files_are_named(defect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    change, words = FILES[defect]
    change(write_torch_dist(tmp_path / "root", as_megatron(random_encoder())))
    with pytest.raises(CheckpointError) as caught:
        _start(tmp_path / "root").open()
    assert words in str(caught.value)
    assert not (tmp_path / "planted").exists()


def test_a_broken_archive_is_named_when_it_is_read(tmp_path: Path) -> None:
    folder = write_whole(tmp_path / "saved", as_megatron(random_encoder()))
    file = next(folder.glob("*.distcp"))
    file.write_bytes(file.read_bytes().replace(b"PK\x01\x02", b"PK\x01\x03"))
    with pytest.raises(DamagedCheckpointError, match=r"the block of .* cannot be read \("):
        _loaded(_start(folder))


@pytest.mark.parametrize("key", [{"prefix": "model."}, {"skip": ["x"]}])
def test_other_folders_take_neither_prefix_nor_skip(key: Mapping[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"init_from.{next(iter(key))}: got .* with a Hugging Face folder, expected"):
        _start(tmp_path, **key).open()


def test_a_rank_reads_the_rows_of_its_heads_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are counted where files are read."""
    from counterpoint.parallelize.blocks import Sharding, block_of
    from counterpoint.train.state import archive

    folder = write_chunks(tmp_path / "saved", as_megatron(random_encoder()))
    values, _fresh = _start(folder).open()
    counts, read_into = [0], archive.read_into

    def counting(descriptor: int, view: memoryview, position: int) -> None:
        counts[0] += len(view)
        read_into(descriptor, view, position)

    monkeypatch.setattr(archive, "read_into", counting)
    for ranks in (1, 2, 4):
        for rank in range(ranks):
            name = "layers.1.attention.k.weight"
            block = block_of(name, Sharding((HIDDEN, HIDDEN), "shard", dim=0), rank, ranks, 0, 1)
            counts[0], target = 0, torch.empty(block.shape, dtype=torch.float64)
            values.fill({name: (block, target)})
            assert counts[0] == block.numel * 8
            assert torch.equal(target, _expected(random_encoder())[name][block.global_slices])
    assert HEADS * HEAD == HIDDEN
    assert DECOYS[0] != PREFIX

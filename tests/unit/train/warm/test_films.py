"""A tower with patches of its own for videos, which are not loaded, takes no videos."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import DataError
from counterpoint.setup.run import prepare_run
from counterpoint.setup.warm_starts import check_films
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.train.state.checkpoint import checkpoint_folder
from tests.unit.items import MakeIndex, MakePicture
from tests.unit.items import make_index as make_index
from tests.unit.items import make_picture as make_picture
from tests.unit.judge.folders import write_tensors
from tests.unit.train.warm.megatron_folders import (
    HIDDEN,
    PATCH,
    RADIO,
    as_megatron,
    random_encoder,
    tower,
    write_whole,
)

TINY = Path(__file__).parents[3] / "parity" / "tiny.yaml"
Write = Callable[..., Path]
FILMS = torch.zeros(HIDDEN, 2 * 3 * PATCH**2)


def _megatron(path: Path, *, has_films: bool) -> Path:
    films = {"video_embedder.weight": FILMS} if has_films else {}
    return write_whole(path, as_megatron(random_encoder()) | films)


def _hub(path: Path, *, has_films: bool) -> Path:
    films = {"radio_model.model.patch_generator.video_embedder.weight": FILMS} if has_films else {}
    write_tensors(path, RADIO, random_encoder() | films)
    return path


def _config(data: Path, start: Path, out: Path) -> Config:
    values = load_config(TINY, [f"data.train=[{{path: {data}, split: train}}]", f"run.dir={out}"]).resolved()
    vision = values["modules"]["vision"]
    vision["model"] = tower().section.model_dump(mode="json") | {
        "image": {"size": None, "max_patches": 16}, "layer_scale": (start / "config.json").exists(),
    }  # fmt: skip
    vision["init_from"] = {"path": str(start), "fresh": ["projector.*"]}
    values["training"]["global_batch_samples"] = values["schedule"]["microbatches"] = 1
    return load_config(values)


@pytest.mark.parametrize("write", [_megatron, _hub])
@pytest.mark.parametrize(("has_films", "pictures"), [(True, 1), (True, 2), (False, 2)])
def test_videos_are_refused_where_their_embedder_is_left_out(
    write: Write, has_films: bool, pictures: int, make_index: MakeIndex, make_picture: MakePicture, tmp_path: Path
) -> None:
    picture = make_picture(28, 28)
    item = Encoded(1, picture, further=(picture,) * (pictures - 1))
    data = make_index([Record([1, 5, 6], [False, True, True], "train", "", [item])])
    config = _config(data, write(tmp_path / "saved", has_films=has_films), tmp_path / "run")
    setup = prepare_run(config)
    if not has_films or pictures == 1:
        check_films(config, setup.models, setup.corpus)
        return
    with pytest.raises(DataError, match=r"modules\.vision\.init_from: .*saved reads videos with .*video_embedder"):
        check_films(config, setup.models, setup.corpus)
    checkpoint_folder(tmp_path / "run", 2).mkdir(parents=True)
    check_films(config, setup.models, setup.corpus)

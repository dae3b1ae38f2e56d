"""What info says of a folder, from its index alone."""

from pathlib import Path

import numpy as np

from counterpoint.inspection.data_info import Fit, Spread, data_info
from counterpoint.sources.prepared.index import PAYLOAD_NAME
from counterpoint.sources.prepared.part import Encoded
from tests.unit.inspection.planted import tokenizer_in, words, write
from tests.unit.items import MakeClip, MakePicture
from tests.unit.items import make_clip as make_clip
from tests.unit.items import make_picture as make_picture

CONFIG = """
schema: 1
run: {{dir: {run}, device: cpu}}
world: {{size: 2}}
modules:
  vision:
    model:
      kind: vit
      layers: 1
      hidden: 32
      heads: 4
      ffn: 64
      patch: 4
      positions: 8
      image: {{max_patches: 64}}
      projector: {{kind: linear}}
    layout: {{ranks: [0]}}
    optimizer: {{lr: 1.0e-3}}
  language:
    model: {{kind: decoder, pattern: "*-", hidden: 32, heads: 4, kv_heads: 2, ffn: 64, vocab: 300}}
    layout: {{ranks: [1]}}
    optimizer: {{lr: 1.0e-3}}
edges: [{{source: vision, target: language}}]
data: {{train: [{{path: {folder}}}], sequence_tokens: 32}}
training: {{steps: 2, global_batch_samples: 2}}
"""


def test_a_folder_is_described(tmp_path: Path, make_picture: MakePicture, make_clip: MakeClip) -> None:
    tokenizer = tokenizer_in(tmp_path)
    pictures = [make_picture(8, width) for width in (8, 12, 16)]
    film = Encoded(1, pictures[0], further=(pictures[0],))
    records = [
        words(tokenizer, "What is it?", "a cat", "train", *(Encoded(1, data) for data in pictures)),
        words(tokenizer, "And then?", "two dogs", "train", film),
        words(tokenizer, "Who?", "me", "val", Encoded(0, make_clip(700), "audio")),
    ]
    found = data_info(write(tmp_path, records), sequence_tokens=len(records[0].tokens) - 1)
    lengths = [len(record.tokens) for record in records]
    assert (found.documents, found.splits, found.chat) == (3, {"train": 2, "val": 1}, "plain")
    assert found.tokens == Spread.of(np.array(lengths))
    assert found.loss_share == sum(sum(record.loss) for record in records) / sum(lengths)
    image, audio = found.items["image"], found.items["audio"]
    assert (image.items, image.files, audio.items) == (4, 5, 1)
    assert image.sizes["width"] == Spread(11.0, 8, {50: 8, 90: 16, 99: 16}, 16)
    assert audio.sizes == {"samples": Spread(700.0, 700, {50: 700, 90: 700, 99: 700}, 700)}
    assert found.vocabulary == tokenizer.vocabulary
    assert found.stores[PAYLOAD_NAME] == (tmp_path / "index" / PAYLOAD_NAME).stat().st_size
    assert found.fit["train"].shortened == sum(length > lengths[0] - 1 for length in lengths[:2])


def test_a_config_says_what_fits(tmp_path: Path, make_picture: MakePicture) -> None:
    tokenizer = tokenizer_in(tmp_path)
    wide = Encoded(1, make_picture(32, 32))
    records = [words(tokenizer, "What?", "it"), words(tokenizer, "What?", "a", "train", wide)]
    folder = write(tmp_path, records)
    (tmp_path / "run.yaml").write_text(CONFIG.format(run=tmp_path / "run", folder=folder))
    fit = data_info(folder, tmp_path / "run.yaml").fit["train"]
    assert fit == Fit(1, "2 documents: 1 kept; 1 left out that have items that end beyond data.sequence_tokens "
                         "(sequences of 32 rows)")  # fmt: skip
    assert data_info(folder, tmp_path / "run.yaml", sequence_tokens=200).fit["train"].shortened == 0
    none = data_info(folder, tmp_path / "run.yaml", sequence_tokens=1).fit["train"]
    assert none.shortened == 2

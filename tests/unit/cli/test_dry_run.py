"""`plan --rank R --dry-run`: one rank of a large world, built in this process."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "recipes" / "nemotron6-moe-vlm-54l.yaml"
LARGE = (
    "world.size=1152", "modules.vision.layout={dp_shard: 128}",
    "modules.language.layout={pp: 4, cp: 2, tp: 8, expert: {ep: 64}}",
)  # fmt: skip
SMALL = ROOT / "examples" / "synthetic_disjoint.yaml"


def test_a_rank_of_a_large_world_is_built(counterpoint: Command, tmp_path: Path) -> None:
    file = tmp_path / "rank.json"
    ended = counterpoint("plan", RECIPE, *LARGE, "--rank", 300, "--dry-run", "--json", file)
    assert ended.code == 0, ended.err
    for words in (
        "Rank 300 of 1152",
        "language.0",
        "collective[0-1151]",
        "storage.0[",
        "own",
        "more ...",
        "Not proved",
    ):
        assert words in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    found = json.loads(file.read_text())
    (stage,) = found["stages"]
    assert found["bytes"] == sum(stage[kind] for kind in ("parameters", "copies", "buffers", "gradients", "optimizer"))
    # Stored in float32, updated by AdamW; experts of all ranks, so none is whole on one.
    assert (stage["gradients"], stage["optimizer"]) == (stage["parameters"], 2 * stage["parameters"])
    assert stage["parameters"] == 4 * stage["elements"] > 0
    assert f"{found['bytes']:,}" in ended.out
    sizes = {group["name"]: group["ranks"] for group in found["groups"]}
    assert sizes["own"] == 1
    # Hosts are in groups of few ranks, whatever the world.
    hosts = [size for name, size in sizes.items() if name.startswith(("control", "storage"))]
    assert max(hosts) <= 64
    assert sum(found["actions"].values()) == len(found["program"])
    assert all(peers["receivers"] <= 64 and peers["senders"] <= 64 for peers in found["peers"])


@pytest.mark.parametrize(("options", "words"), [
    (("--dry-run",), "--dry-run: got no --rank, expected the rank to build"),
    (("--dry-run", "--rank", 99), "--rank: got 99, in a world of ranks 0 to 3, expected a rank that has work"),
    (("--dry-run", "--rank", 0, "--html", "page.html"), "--html: got it with --dry-run"),
    (("--dry-run", "--rank", 0, "--hardware", "H200", "--trace", "t"), "--hardware and --trace: got them with --dry"),
])  # fmt: skip
def test_what_cannot_be_built_is_said(counterpoint: Command, options: tuple[object, ...], words: str) -> None:
    ended = counterpoint("plan", SMALL, *options)
    assert ended.code == 2
    assert words in ended.err

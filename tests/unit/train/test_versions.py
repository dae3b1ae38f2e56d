"""Ranks with other plug-ins, or other versions of them, are refused by name before anything is trained."""

from typing import Any

import pytest
import torch.distributed as dist

from counterpoint.errors import InputError
from counterpoint.train.versions import check_versions


def _checked(monkeypatch: pytest.MonkeyPatch, *gathered: dict[str, str]) -> None:
    def gather(into: list[Any], own: object, group: object) -> None:
        assert own == gathered[0]
        into[:] = gathered

    monkeypatch.setattr(dist, "all_gather_object", gather)
    check_versions(gathered[0], [0, 2, 3][: len(gathered)], object())  # type: ignore[arg-type]


def test_equal_versions_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    _checked(monkeypatch, {}, {}, {})
    _checked(monkeypatch, {"a": "1.0", "b": "2"}, {"a": "1.0", "b": "2"})


@pytest.mark.parametrize(("gathered", "words"), [
    (({"a": "1.0"}, {"a": "1.0"}, {"a": "1.1"}), "got a 1.0 on rank 0 and 1.1 on rank 3"),
    (({"a": "1.0", "b": "2"}, {"a": "1.0"}), "got b 2 on rank 0 and not at all on rank 2"),
    (({}, {"a": "1.0"}), "got a not at all on rank 0 and 1.0 on rank 2"),
])  # fmt: skip
def test_other_versions_are_refused(
    monkeypatch: pytest.MonkeyPatch, gathered: tuple[dict[str, str], ...], words: str
) -> None:
    with pytest.raises(InputError, match=f"^run.plugins: {words}, expected one version on all ranks; install the same"):
        _checked(monkeypatch, *gathered)

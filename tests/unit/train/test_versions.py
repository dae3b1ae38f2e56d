"""Ranks with other plug-ins, or other versions of them, are refused by name before anything is trained."""

import pytest

from counterpoint.errors import InputError
from counterpoint.execute.tree import ALONE
from counterpoint.train.versions import check_versions, first_difference


def _difference(*versions: dict[str, str]) -> str | None:
    return first_difference(versions, [0, 2, 3][: len(versions)])


def test_equal_versions_pass() -> None:
    assert _difference({}, {}, {}) is None
    assert _difference({"a": "1.0", "b": "2"}, {"a": "1.0", "b": "2"}) is None
    check_versions({"a": "1.0"}, [0], ALONE)


@pytest.mark.parametrize(("gathered", "words"), [
    (({"a": "1.0"}, {"a": "1.0"}, {"a": "1.1"}), "got a 1.0 on rank 0 and 1.1 on rank 3"),
    (({"a": "1.0", "b": "2"}, {"a": "1.0"}), "got b 2 on rank 0 and not at all on rank 2"),
    (({}, {"a": "1.0"}), "got a not at all on rank 0 and 1.0 on rank 2"),
])  # fmt: skip
def test_other_versions_are_refused(gathered: tuple[dict[str, str], ...], words: str) -> None:
    said = _difference(*gathered)
    assert said is not None
    assert said.startswith(f"run.plugins: {words}, expected one version on all ranks; install the same")


def test_what_the_first_rank_finds_all_ranks_raise() -> None:
    class Two:
        """The second of two ranks, told what the first has found."""

        def gather(self, own: dict[str, str]) -> None:
            assert own == {"a": "1.1"}

        def broadcast(self, _nothing: None) -> str:
            return "run.plugins: got a 1.0"

    with pytest.raises(InputError, match=r"^run\.plugins: got a 1\.0$"):
        check_versions({"a": "1.1"}, [0, 1], Two())  # type: ignore[arg-type]

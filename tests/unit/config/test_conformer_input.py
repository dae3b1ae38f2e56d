"""A conformer's sizes that cannot be are refused, each with its key, and so are keys of other encoders."""

from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import ConfigError
from tests.parity.layouts import override
from tests.parity.speech import SPEECH
from tests.parity.test_conformer import CONFORMER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": 25, "heads": 5}, r"modules\.audio\.model\.hidden: .*25.*an even width"),
        ({"mels": 12}, r"modules\.audio\.model\.mels: .*12.*a multiple of 8"),
        ({"conv": 4}, r"modules\.audio\.model\.conv: .*4.*an odd width"),
        ({"stack": 2}, r"modules\.audio\.model\.stack"),
        ({"final_norm": True}, r"modules\.audio\.model\.final_norm"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(load_config(SPEECH), {"modules.audio.model": CONFORMER | change})


def test_a_clip_of_more_rows_than_the_model_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"modules\.audio\.model\.audio\.seconds: .*2, 25 rows.*at most 13 rows"):
        override(load_config(SPEECH), {"modules.audio.model": CONFORMER | {"audio": {"seconds": 2}}})

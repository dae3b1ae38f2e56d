"""The one pool of ranks that every test with processes shares."""

from collections.abc import Iterator

import pytest

from counterpoint.verify.pool import Pool

RANKS = 8


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Eight ranks, started once for the whole session."""
    with Pool(RANKS, timeout_seconds=600.0) as ranks:
        yield ranks

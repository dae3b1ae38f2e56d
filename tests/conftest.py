"""What is made once for all tests: the one pool of ranks, the wheel, an environment that has it."""

from collections.abc import Iterator

import pytest

from counterpoint.verify.pool import Pool
from tests.distribution import Distributions, Installed, build

RANKS = 8


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Eight ranks, started once for the whole session."""
    with Pool(RANKS, timeout_seconds=600.0) as ranks:
        yield ranks


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """The wheel and the source distribution of this tree."""
    return build(tmp_path_factory.mktemp("distributions"))


@pytest.fixture(scope="session")
def installed(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment that knows the package by its wheel alone."""
    return Installed.create(tmp_path_factory.mktemp("installed") / "environment", [distributions.wheel])

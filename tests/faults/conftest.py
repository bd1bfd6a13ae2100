"""One server that starts trainings, for all tests of this folder."""

from collections.abc import Iterator

import pytest
from small_trainings import SmallTrainings
from trainings import Trainings, trainings_in


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    with trainings_in(tmp_path_factory.mktemp("printed")) as started:
        yield started


@pytest.fixture(scope="session")
def small(trainings: Trainings, tmp_path_factory: pytest.TempPathFactory) -> SmallTrainings:
    return SmallTrainings(trainings, tmp_path_factory.mktemp("small"))

"""Means over an epoch's images, also where its parts change on the way."""

import pytest
import torch
from accelerate import Accelerator

from mocse_timm.training.progress import EpochSums


def some_sums() -> EpochSums:
    """10 images of one recipe, and then 30 of another."""
    sums = EpochSums()
    sums.add({"loss": torch.tensor(2.0), "top1": torch.tensor(50.0), "expert_loss": torch.tensor(4.0)}, 10)
    sums.add({"loss": torch.tensor(1.0), "top1": torch.tensor(70.0), "agreement_loss": torch.tensor(3.0)}, 30)
    sums.seconds = 7.0
    return sums


MEANS = {"loss": 1.25, "top1": 65.0, "expert_loss": 4.0, "agreement_loss": 3.0}


def test_a_part_that_comes_or_goes_in_mid_epoch_is_over_its_own_images() -> None:
    sums = some_sums()
    assert sums.means() == MEANS and sums.images == 40
    assert sums.means(Accelerator(cpu=True)) == MEANS


def test_sums_are_taken_up_again() -> None:
    accelerator, sums = Accelerator(cpu=True), EpochSums()
    sums.restore(some_sums().of_every_process(accelerator), accelerator)
    assert (sums.means(), sums.images, sums.seconds) == (MEANS, 40, 7.0)


@pytest.mark.parametrize("names", [["loss"], ["loss", "top1", "agreement_loss"]])
def test_sums_of_earlier_versions_have_one_count_for_all(names: list[str]) -> None:
    accelerator, sums = Accelerator(cpu=True), EpochSums()
    saved = {"names": names, "rows": [[80.0 * (1 + place) for place in range(len(names))] + [40.0]], "seconds": 7.0}
    sums.restore(saved, accelerator)
    assert sums.means() == {name: 2.0 * (1 + place) for place, name in enumerate(names)}
    assert sums.images == 40

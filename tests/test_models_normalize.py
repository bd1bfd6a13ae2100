import pytest
import torch

from mocse_timm.models.normalize import Normalize


def test_subtracts_the_mean_and_divides_by_the_deviation_channel_by_channel() -> None:
    images = torch.tensor([0.5, 0.5, 1.0]).view(1, 3, 1, 1)
    normalised = Normalize((0.5, 0.25, 0.0), (0.1, 0.5, 0.25))(images)
    torch.testing.assert_close(normalised.flatten(), torch.tensor([0.0, 0.5, 4.0]))


def test_other_numbers_of_channels_get_the_average() -> None:
    normalise = Normalize((0.2, 0.4, 0.6), (0.1, 0.2, 0.3), in_chans=1)
    torch.testing.assert_close(normalise(torch.ones(1, 1, 2, 2)), torch.full((1, 1, 2, 2), 3.0))


def test_statistics_are_not_saved_but_survive_the_meta_device() -> None:
    normalise = Normalize((0.5,), (0.25,), in_chans=1, device="meta")
    assert not normalise.state_dict()
    normalise.to_empty(device="cpu")
    normalise.init_non_persistent_buffers()
    assert normalise(torch.ones(1, 1, 1, 1)).item() == 2.0


def test_zero_deviation_is_refused() -> None:
    with pytest.raises(ValueError, match="std must be above 0, got"):
        Normalize((0.5,), (0.0,), in_chans=1)

"""A loader of one batch an epoch, for tests of the training loop."""

from collections.abc import Iterator

from torch import Tensor


class OneBatch:
    """What the loop asks of a loader: its length, the number of its images, and the batch."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.batch = images, labels
        self.num_images = len(labels)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([self.batch])

    def __len__(self) -> int:
        return 1

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None: ...

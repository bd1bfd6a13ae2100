"""One model where it is to be computed: its loaders and its passes over clean and corrupted images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm.data
import torch
from accelerate import Accelerator
from torch import nn

from mocse_timm.checks import BadInput
from mocse_timm.data import DataSplits, FileImages, Loader, MemoryImages, Resizing, build_loader
from mocse_timm.data.file_stems import file_stems
from mocse_timm.data.images_digest import images_digest
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.corruption_scores import CorruptionScores
from mocse_timm.evaluation.corruption_scoring import answer_cells, score_answers
from mocse_timm.evaluation.corruption_source import Share, Source
from mocse_timm.evaluation.gather import gather_in_order
from mocse_timm.evaluation.out_of_memory import is_out_of_memory
from mocse_timm.evaluation.predictions import Predictions, predict
from mocse_timm.models.mixture import Mixture
from mocse_timm.models.mocse import MoCSE
from mocse_timm.models.normalized import image_channels, normalized

__all__ = ["Scorer", "model_size", "resizing_of"]


def model_size(model: nn.Module) -> int:
    """Return the side in pixels of the images that ``model`` takes by itself."""
    return int(timm.data.resolve_data_config(model=model)["input_size"][-1])


def resizing_of(model: nn.Module, split: MemoryImages | FileImages) -> Resizing:
    """Return how ``split``'s images become squares for ``model``; those in memory did before, whole."""
    if isinstance(split, FileImages):
        return Resizing.of_cfg(timm.data.resolve_data_config(model=model))
    return split.resizing


def _compile(model: nn.Module) -> None:
    """Compile in place; each expert of a mixture by itself, as they run one after the other."""
    for part in model.experts if isinstance(model, Mixture) else [model]:
        part.compile()


@dataclass(frozen=True, eq=False)
class Scorer:
    """A model, the flags, and the processes that share the work; every process gets the answers of all.

    Args:
        config: complete.
        model: on the CPU until :meth:`place`.
        device: of this process.
        accelerator: knows the processes.
    """

    config: ValidateConfig
    model: nn.Module
    device: torch.device
    accelerator: Accelerator

    @property
    def image_size(self) -> int:
        """Side in pixels."""
        return self.config.img_size or model_size(self.model)

    @property
    def share(self) -> Share:
        """This process's part of the images."""
        return Share(self.accelerator.process_index, self.accelerator.num_processes)

    def loader(self, split: MemoryImages | FileImages, share: Share, resizing: Resizing | None = None) -> Loader:
        """Return the batches of ``share``'s images of ``split``, in order; without ``resizing`` as the model's."""
        return build_loader(
            split,
            training=False,
            batch_size=self.config.batch_size,
            image_size=self.image_size,
            in_chans=image_channels(self.model),
            seed=self.config.seed,
            num_workers=self.config.workers,
            device=self.device,
            resizing=resizing or resizing_of(self.model, split),
            process_index=share.process_index,
            num_processes=share.num_processes,
        )

    def shared_loader(self, split: MemoryImages | FileImages) -> Loader:
        """Return the batches of this process's share of ``split``."""
        return self.loader(split, self.share)

    def archive_loader(self, split: MemoryImages | FileImages) -> Loader:
        """Return the batches of this process's share of a cell of an archive, whose images were cropped before."""
        return self.loader(split, self.share, Resizing(crop_pct=1.0))

    def place(self) -> None:
        """Move the model to its device, lay it out and compile it, as the flags say."""
        self.model.to(self.device)
        if self.config.channels_last:
            self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (not in torch's stubs)
        if self.config.torchcompile:
            _compile(self.model)

    def _precision(self) -> dict[str, Any]:
        config = self.config
        amp_dtype = getattr(torch, config.amp_dtype) if config.amp else None
        return {"amp_dtype": amp_dtype, "channels_last": config.channels_last}

    @contextmanager
    def saying_what_does_not_fit(self) -> Iterator[None]:
        """Turn memory that runs out inside the block into one sentence; other errors pass.

        Raises:
            BadInput: if memory ran out.
        """
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise BadInput(
                f"{self.config.batch_size} images a step do not fit on {self.device}; lower --batch-size"
            ) from None

    def predict(self, split: MemoryImages | FileImages) -> Predictions:
        """Return the answers to all of ``split``, in its order."""
        with self.saying_what_does_not_fit():
            return predict(
                normalized(self.model),
                self.shared_loader(split),
                device=self.device,
                progress=self.accelerator.is_main_process,
                gather=partial(gather_in_order, accelerator=self.accelerator),
                **self._precision(),
            )

    def score_corruptions(self, source: Source, clean: Predictions, data: DataSplits) -> CorruptionScores:
        """Return the scores of every cell of ``source``; ``clean`` are the answers to the clean set."""
        with self.saying_what_does_not_fit():
            answers = answer_cells(
                normalized(self.model),
                source,
                device=self.device,
                accelerator=self.accelerator,
                **self._precision(),
            )
        split = data.train if self.config.split == "train" else data.validation
        mixture = isinstance(self.model, MoCSE) or hasattr(self.model, "route")
        return score_answers(
            answers,
            clean,
            source,
            dataset=data.public_name,
            split=self.config.split,
            mixture=mixture,
            clean_stems=file_stems(split),
            clean_sha256=images_digest(split) if source.ours else None,
        )

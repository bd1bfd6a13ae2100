"""``python -m mocse_timm.hub``: save, card, push, check, list, predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from mocse_timm.checks import command
from mocse_timm.hub.card import write_card
from mocse_timm.hub.check import check
from mocse_timm.hub.config import Card, Check, List, Predict, Push, Save, Zoo
from mocse_timm.hub.listing import list_models, render_models
from mocse_timm.hub.predict import check_picture, check_top, load_by_name, predict_picture, render_prediction
from mocse_timm.hub.push import push
from mocse_timm.hub.save import save_run
from mocse_timm.hub.zoo_table import write_zoo

__all__ = ["main", "run"]

Command = (
    Annotated[Save, tyro.conf.subcommand("save")]
    | Annotated[Card, tyro.conf.subcommand("card")]
    | Annotated[Push, tyro.conf.subcommand("push")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Predict, tyro.conf.subcommand("predict")]
    | Annotated[Zoo, tyro.conf.subcommand("zoo")]
)


def run(job: Save | Card | Push | Check | List | Predict | Zoo) -> None:
    """Do what one command says.

    Raises:
        BadInput: for anything wrong with the flags, the run, its files, the Hub's answer or the disk.
    """
    match job:
        case Save():
            print(f"saved and compared bit for bit: {save_run(Path(job.run), Path(job.out))}")
        case Card():
            print(f"written to {write_card(Path(job.run), repo_id=job.repository)}")
        case Push():
            where = push(
                Path(job.run),
                job.repository,
                private=job.private,
                revision=job.revision,
                create_pr=job.create_pr,
                dry_run=job.dry_run,
            )
            if not job.dry_run:
                print(f"published: {where}")
        case Check():
            verdict = check(job.model)
            print(verdict.text)
            verdict.refuse_failures()
        case List():
            print(render_models(list_models(job.author)))
        case Predict():
            check_picture(job.picture)
            check_top(job.top)
            print(render_prediction(predict_picture(load_by_name(job.model), job.picture), job.top))
        case Zoo():
            for path in write_zoo(Path(job.cards)):
                print(f"written to {path}")


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Read the flags and do what they say."""
    run(tyro.cli(Command, args=arguments, description="Models on the Hub: save, card, push, check, list, predict."))

"""The flags of train.py. Where timm has the same flag, it has the same name and meaning."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from mocse_timm.attacks.budget import Budget
from mocse_timm.flags import KeyValues, Pixels

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and how."""

    model: str = "mocse_preact18"
    """Any registered model: mocse_*, cifar_*, or one of timm's own."""
    model_kwargs: KeyValues = field(default_factory=dict)
    """Options of the architecture, e.g. backbone=cifar_resnet18 expert_width=0.125."""
    pretrained: bool = False
    """Start from the model's published weights."""

    dataset: str = "digits"
    """digits, cifar10, cifar100, folder:PATH, torch/NAME or hfds/NAME."""
    data_dir: str | None = None
    """Where data sets are kept."""
    dataset_download: bool = False
    """Download the data set if it is missing."""
    train_split: str = "train"
    """Name of the training part, in folders and timm's data sets."""
    val_split: str = "validation"
    """Name of the part to validate on, in folders and timm's data sets; of folders val and test are tried, too."""
    img_size: int | None = None
    """Image side in pixels; images are resized to it. By default the model's: larger files are resized to that, too,
    but images kept in memory, CIFAR's and folders of up to 64x64 pixels, must have it already."""
    check_images: bool = True
    """Decode every image file once before training, so that a broken one is named now and not in a later epoch."""
    in_chans: int = 3
    """3 for colour, 1 for gray."""

    epochs: int = 10
    """Epochs of the whole training, warmup included."""
    batch_size: Annotated[int, tyro.conf.arg(aliases=["-b"])] = 128
    """Images a step, in each process."""
    validation_batch_size: Annotated[int | None, tyro.conf.arg(aliases=["-vb"])] = None
    """Images a step of validation; by default twice the training's."""
    grad_accum_steps: int = 1
    """Batches whose gradients are added up to one optimiser step."""

    objective: Literal["ce", "mocse", "ensemble"] | None = None
    """Cross-entropy on the class scores; with each class expert's own; of each network of an ensemble. By default what
    suits the model."""
    expert_loss_weight: float = 1.0
    """Weight of the experts' loss in --objective mocse."""
    aggregate_loss_weight: float = 1.0
    """Weight of the class scores' cross-entropy in --objective mocse; 0 trains every expert for itself."""
    expert_positive_weight: float = 1.0
    """Weight of an expert's own images in its loss; classes less one balances "mine" and "not mine"."""
    smoothing: float = 0.0
    """Label smoothing; with class experts of the class scores alone, but where images are mixed of the experts, too."""

    jsd_loss: bool = False
    """Add the Jensen-Shannon divergence of the answers to the versions that --aug-splits makes of every image."""
    jsd_weight: float = 12.0
    """Weight of --jsd-loss; of class experts, each one's divergence counts."""

    kd_model_name: str | None = None
    """A trained model that teaches this one: a run's folder, hf-hub:USER/NAME, or a timm name with published weights.
    With class experts it is asked their questions, too."""
    kd_temperature: float = 4.0
    """Temperature of the teacher's and the model's answers, above 0; at 1 they count as they are."""
    distill_loss_weight: float | None = None
    """Weight of the teacher's answers; by default 1, or what --task-loss-weight leaves of 1."""
    task_loss_weight: float | None = None
    """Weight of the labels' loss beside a teacher's; by default 1."""

    recipe: Literal["standard", "pgd", "trades", "advmoe"] = "standard"
    """On clean images; on images attacked by PGD; TRADES; or AdvMoE's turns of experts and router."""
    epsilon: Pixels = 8 / 255
    """Largest change of a pixel by the attack, or of all together in --attack-norm l2. Pixels are in [0, 1]."""
    attack_norm: Literal["linf", "l2"] = "linf"
    """How changes are measured."""
    attack_steps: int | None = None
    """Gradient steps of the attack; by default 10, or 2 in --recipe advmoe, as its authors have it."""
    step_size: Pixels | None = None
    """Length of a step; by default a quarter of epsilon, or 5/8 of it in --recipe advmoe."""
    beta: float = 6.0
    """Weight of the agreement between clean and attacked answers, in trades and advmoe."""
    router_objective: Literal["trades", "class"] = "trades"
    """What AdvMoE's router learns: the model's loss (the paper), or class modulo experts (after the authors' code)."""
    router_lr: float | None = None
    """The router's learning rate in --recipe advmoe; by default the experts'."""
    router_clip_grad: float | None = 1.0
    """Largest gradient norm of the router in --recipe advmoe, whose gate sums over all layers; None for no limit."""
    balance_weight: float = 0.0
    """Weight of a loss that spreads images over AdvMoE's experts, in --recipe advmoe."""

    opt: str = "sgd"
    """timm's optimiser name; its sgd is Nesterov, plain momentum is called momentum."""
    lr: float | None = None
    """Learning rate; by default --lr-base scaled by the size of an optimiser step."""
    lr_base: float = 0.1
    """Learning rate for --lr-base-size images a step. Other sizes scale it linearly, or by the square root of the ratio
    where --opt has ada or lamb in its name."""
    lr_base_size: int = 256
    """Images a step that --lr-base is meant for."""
    momentum: float = 0.9
    """Momentum of the optimiser."""
    weight_decay: float = 5e-4
    """Weight decay; biases and batch norms are left out unless --no-filter-bias-and-bn."""
    filter_bias_and_bn: bool = True
    """Do not decay biases and batch norms."""
    opt_kwargs: KeyValues = field(default_factory=dict)
    """Further options of the optimiser, e.g. betas=(0.9,0.95)."""
    layer_decay: float | None = None
    """Learning rate factor from each layer to the one before."""
    clip_grad: float | None = None
    """Largest gradient norm (or value, see --clip-mode); AdvMoE's router has --router-clip-grad."""
    clip_mode: Literal["norm", "value", "agc"] = "norm"
    """What --clip-grad limits; agc leaves the classifier out."""

    sched: str = "cosine"
    """timm's scheduler name."""
    sched_on_updates: bool = True
    """Change the learning rate at every step instead of every epoch; plateau changes it after validations alone."""
    warmup_epochs: float = 1.0
    """Epochs of linear warmup."""
    warmup_lr: float = 1e-5
    """Learning rate at the start of the warmup."""
    min_lr: float = 0.0
    """Learning rate at the end."""
    decay_epochs: float | None = None
    """Epochs between drops, for --sched step, by default 90; of the fall at the end, for wsd and rsqrt, by default a
    fifth of those after the warmup."""
    decay_milestones: tuple[int, ...] = (90, 180, 270)
    """Epochs at which the rate drops, for --sched multistep."""
    decay_rate: float = 0.1
    """Factor of a drop, for --sched step and multistep."""

    padding: int = 4
    """Black border in pixels before the random crop of images kept in memory."""
    hflip: float = 0.5
    """Probability of mirroring left to right."""
    cutout: int = 0
    """Side in pixels of a black square; 0 for none."""
    aa: str | None = None
    """timm's augmentation policy, e.g. rand-m9-mstd0.5, augmix-m3-w3, original."""
    mixup: float = 0.0
    """Mixup's alpha."""
    cutmix: float = 0.0
    """CutMix's alpha."""
    aug_splits: int = 0
    """Versions of every image for --jsd-loss, the first without --aa; 3 is AugMix's. 0 for none."""
    reprob: float = 0.0
    """Probability of random erasing."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Area of the random resized crop of images from files."""
    color_jitter: float = 0.4
    """Colour jitter of images from files."""
    no_aug: bool = False
    """Switch all augmentation off."""

    drop: float | None = None
    """Dropout before the classifier."""
    model_ema: bool = False
    """Keep an average of the weights, and validate and save that."""
    model_ema_decay: float = 0.9998
    """Decay of the average, per step."""
    model_ema_warmup: bool = True
    """Let the decay grow at first; without it short runs average in their random start."""

    amp: bool = False
    """Compute in 16 bits where that is safe."""
    amp_dtype: Literal["bfloat16", "float16"] = "bfloat16"
    """The 16-bit format of --amp."""
    channels_last: bool = False
    """Lay images and weights out channel by channel; often faster."""
    torchcompile: str | None = None
    """Compile the model with this backend, e.g. inductor."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory; batch norms then see every batch twice."""

    seed: int = 42
    """Seed of weights, order and augmentation."""
    workers: Annotated[int, tyro.conf.arg(aliases=["-j"])] = 4
    """Processes that load images one by one; images kept in memory need none."""
    output: str = "output/train"
    """Folder of all runs."""
    experiment: str = ""
    """Name of this run's folder; by default date, model and image size."""
    resume: str = ""
    """Folder of a run to continue; its flags are read back, typed ones win. Or auto: the run of --experiment, or else
    the newest unfinished one under --output of this model and data; without one a new run begins."""
    save_every: tuple[float, Literal["steps", "minutes"]] = (10.0, "minutes")
    """How often the state is saved within an epoch, e.g. 500 steps. It is saved at every epoch's end, too."""
    checkpoint_hist: int = 2
    """Saved states to keep."""
    val_interval: int = 1
    """Epochs between validations."""
    log_interval: int = 10
    """Steps between updates of the progress bar and checks of the loss."""
    log_with: str | None = None
    """A tracker that Accelerate knows, e.g. tensorboard."""

    def attack_budget(self) -> Budget:
        """Return what the recipe's attack may do, with the defaults of its paper filled in."""
        steps, share = (2, 5 / 8) if self.recipe == "advmoe" else (10, 1 / 4)
        return Budget(
            self.epsilon,
            steps if self.attack_steps is None else self.attack_steps,
            share * self.epsilon if self.step_size is None else self.step_size,
            self.attack_norm,
        )

    def teaching_weights(self) -> tuple[float, float]:
        """Return the weights of labels and teacher, by timm's rule: the labels' alone leaves the teacher the rest."""
        task = 1.0 if self.task_loss_weight is None else self.task_loss_weight
        if self.distill_loss_weight is not None:
            return task, self.distill_loss_weight
        return task, 1.0 if self.task_loss_weight is None else 1 - task

    @staticmethod
    def flag(name: str) -> str:
        """Return the flag of the field ``name``."""
        return f"--{name.replace('_', '-')}"

"""What is published about the four official archives: names, sizes, checksums and where they are.

Source:
    Zenodo records 2535967 (CIFAR-10-C), 3555552 (CIFAR-100-C), 2235448 (ImageNet-C) and 8206060 (Tiny-ImageNet-C,
    uploaded again with a mended frost). The md5 sums of single files are those that data-set readers check.
"""

from dataclasses import dataclass, field

from mocse_timm.corruptions.names import GROUPS

__all__ = ["OFFICIAL", "OfficialArchive", "TarFile"]


@dataclass(frozen=True)
class TarFile:
    """One file of a Zenodo record.

    Args:
        record: its number.
        name: of the file.
        md5: of the file.
        num_bytes: None where no size is published.
        groups: the corruptions in it, by group.
    """

    record: int
    name: str
    md5: str
    num_bytes: int | None = None
    groups: tuple[str, ...] = tuple(GROUPS)

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Names of the corruptions in it."""
        return tuple(name for group in self.groups for name in GROUPS[group])


@dataclass(frozen=True)
class OfficialArchive:
    """One of the four archives.

    Args:
        title: its name, which is the name of its folder, too.
        data_sets: names by which ``load_data`` knows its clean images; empty where they come as image folders.
        tars: what there is to download.
        side: of its images in pixels.
        num_classes: how many.
        images_per_class: in every cell, where every class has the same number.
        file_md5: of every file, where they are published.
    """

    title: str
    data_sets: tuple[str, ...]
    tars: tuple[TarFile, ...]
    side: int
    num_classes: int
    images_per_class: int
    file_md5: dict[str, str] = field(default_factory=dict)

    @property
    def num_images(self) -> int:
        """Images in one cell, that is in one corruption at one severity."""
        return self.num_classes * self.images_per_class


MAIN = ("noise", "blur", "weather", "digital")

CIFAR10_C_MD5 = {
    "brightness.npy": "0a81ef75e0b523c3383219c330a85d48",
    "contrast.npy": "3c8262171c51307f916c30a3308235a8",
    "defocus_blur.npy": "7d1322666342a0702b1957e92f6254bc",
    "elastic_transform.npy": "9421657c6cd452429cf6ce96cc412b5f",
    "fog.npy": "7b397314b5670f825465fbcd1f6e9ccd",
    "frost.npy": "31f6ab3bce1d9934abfb0cc13656f141",
    "gaussian_blur.npy": "c33370155bc9b055fb4a89113d3c559d",
    "gaussian_noise.npy": "ecaf8b9a2399ffeda7680934c33405fd",
    "glass_blur.npy": "7361fb4019269e02dbf6925f083e8629",
    "impulse_noise.npy": "2090e01c83519ec51427e65116af6b1a",
    "jpeg_compression.npy": "2b9cc4c864e0193bb64db8d7728f8187",
    "labels.npy": "c439b113295ed5254878798ffe28fd54",
    "motion_blur.npy": "fffa5f852ff7ad299cfe8a7643f090f4",
    "pixelate.npy": "0f14f7e2db14288304e1de10df16832f",
    "saturate.npy": "1cfae0964219c5102abbb883e538cc56",
    "shot_noise.npy": "3a7239bb118894f013d9bf1984be7f11",
    "snow.npy": "bb238de8555123da9c282dea23bd6e55",
    "spatter.npy": "8a5a3903a7f8f65b59501a6093b4311e",
    "speckle_noise.npy": "ef00b87611792b00df09c0b0237a1e30",
    "zoom_blur.npy": "6ea8e63f1c5cdee1517533840641641b",
}

CIFAR100_C_MD5 = {
    "brightness.npy": "f22d7195aecd6abb541e27fca230c171",
    "contrast.npy": "322bb385f1d05154ee197ca16535f71e",
    "defocus_blur.npy": "d923e3d9c585a27f0956e2f2ad832564",
    "elastic_transform.npy": "a0792bd6581f6810878be71acedfc65a",
    "fog.npy": "4efc7ebd5e82b028bdbe13048e3ea564",
    "frost.npy": "3a39c6823bdfaa0bf8b12fe7004b8117",
    "gaussian_blur.npy": "5204ba0d557839772ef5a4196a052c3e",
    "gaussian_noise.npy": "ecc4d366eac432bdf25c024086f5e97d",
    "glass_blur.npy": "0bf384f38e5ccbf8dd479d9059b913e1",
    "impulse_noise.npy": "3b3c210ddfa0b5cb918ff4537a429fef",
    "jpeg_compression.npy": "c851b7f1324e1d2ffddeb76920576d11",
    "labels.npy": "bb4026e9ce52996b95f439544568cdb2",
    "motion_blur.npy": "732a7e2e54152ff97c742d4c388c5516",
    "pixelate.npy": "96c00c60f144539e14cffb02ddbd0640",
    "saturate.npy": "c0697e9fdd646916a61e9c312c77bf6b",
    "shot_noise.npy": "b0a1fa6e1e465a747c1b204b1914048a",
    "snow.npy": "0237be164583af146b7b144e73b43465",
    "spatter.npy": "12ccf41d62564d36e1f6a6ada5022728",
    "speckle_noise.npy": "e3f215b1a0f9fd9fd6f0d1cf94a7ce99",
    "zoom_blur.npy": "0204613400c034a81c4830d5df81cb82",
}

_ALL = (
    OfficialArchive(
        "CIFAR-10-C",
        ("cifar10",),
        (TarFile(2535967, "CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499", 2_918_471_680),),
        side=32,
        num_classes=10,
        images_per_class=1000,
        file_md5=CIFAR10_C_MD5,
    ),
    OfficialArchive(
        "CIFAR-100-C",
        ("cifar100",),
        (TarFile(3555552, "CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3", 2_918_473_216),),
        side=32,
        num_classes=100,
        images_per_class=100,
        file_md5=CIFAR100_C_MD5,
    ),
    OfficialArchive(
        "Tiny-ImageNet-C",
        (),
        (
            TarFile(8206060, "Tiny-ImageNet-C.tar", "f9c9a9dbdc11469f0b850190f7ad8be1", 1_794_775_040, MAIN),
            TarFile(8206060, "Tiny-ImageNet-C-extra.tar", "0db0588d243cf403ef93449ec52b70eb", None, ("extra",)),
        ),
        side=64,
        num_classes=200,
        images_per_class=50,
    ),
    OfficialArchive(
        "ImageNet-C",
        ("torch/imagenet",),
        (
            TarFile(2235448, "noise.tar", "e80562d7f6c3f8834afb1ecf27252745", 22_565_673_785, ("noise",)),
            TarFile(2235448, "blur.tar", "2d8e81fdd8e07fef67b9334fa635e45c", 7_112_704_951, ("blur",)),
            TarFile(2235448, "weather.tar", "33ffea4db4d93fe4a428c40a6ce0c25d", 12_797_438_995, ("weather",)),
            TarFile(2235448, "digital.tar", "89157860d7b10d5797849337ca2e5c03", 7_757_510_705, ("digital",)),
            TarFile(2235448, "extra.tar", "d492dfba5fc162d8ec2c3cd8ee672984", 15_789_490_144, ("extra",)),
        ),
        side=224,
        num_classes=1000,
        images_per_class=50,
    ),
)

OFFICIAL: dict[str, OfficialArchive] = {archive.title: archive for archive in _ALL}
"""The four archives by title."""

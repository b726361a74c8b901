"""The table of data sets that can be loaded by name: `DATASETS`.

File sizes and SHA-256 sums are those published by TensorFlow Datasets (folder url_checksums). The four of
Fashion-MNIST were also checked against files whose MD5 sums match those printed by its authors. Mirrors are not
trusted: a file that does not match is discarded.
"""

from thruway.data import class_names
from thruway.data.cifar import read_cifar
from thruway.data.digits import FIRST_TEST, read_digits
from thruway.data.entry import Entry, Part, Remote
from thruway.data.folder import read_folder
from thruway.data.idx import read_idx_pair, read_transposed_idx_pair
from thruway.data.shapeset import Shapeset, read_shapeset

__all__ = ["DATASETS", "EMNIST_SPLITS"]

GREY = (1, 28, 28)
COLOUR = (3, 32, 32)
EMNIST_SPLITS = ("byclass", "bymerge", "balanced", "letters", "digits", "mnist")

_IDX_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_IDX_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx_remotes(folder: str, *sizes_and_sums: tuple[int, str]) -> tuple[Remote, ...]:
    files = (*_IDX_TRAIN, *_IDX_TEST)
    return tuple(
        Remote(f"{folder}/{file}.gz", size, sha256) for file, (size, sha256) in zip(files, sizes_and_sums, strict=True)
    )


def _emnist(split: str, train: tuple[int, ...], test: tuple[int, ...]) -> Entry:
    def files(part: str) -> tuple[str, ...]:
        return tuple(f"emnist-{split}-{part}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1"))

    return Entry(
        f"emnist-{split}",
        f"EMNIST {split}",
        "Cohen, Afshar, Tapson & van Schaik 2017 (arXiv:1702.05373), from NIST Special Database 19; public domain",
        read_transposed_idx_pair,
        Part(files("train"), train),
        Part(files("test"), test),
        class_names.EMNIST[split],
        GREY,
        folders=("EMNIST/raw",),
        mirrors=(
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
            "https://web.archive.org/web/2020id_/https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        remotes=(
            Remote(
                "EMNIST/raw/gzip.zip", 561753746, "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"
            ),
        ),
    )


DATASETS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "digits",
            "Digits",
            "Alpaydin & Kaynak 1998, UCI (doi:10.24432/C50P49), as in scikit-learn; CC BY 4.0",
            read_digits,
            Part(counts=(FIRST_TEST,)),
            Part(counts=(1797 - FIRST_TEST,)),
            class_names.DIGITS,
            (1, 8, 8),
            top=16,
        ),
        Entry(
            "mnist",
            "MNIST",
            "LeCun, Cortes & Burges 1998",
            read_idx_pair,
            Part(_IDX_TRAIN, (60000,)),
            Part(_IDX_TEST, (10000,)),
            class_names.DIGITS,
            GREY,
            folders=("MNIST/raw",),
            mirrors=(
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
            remotes=_idx_remotes(
                "MNIST/raw",
                (9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
                (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
                (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
                (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
            ),
        ),
        Entry(
            "fashion-mnist",
            "Fashion-MNIST",
            "Xiao, Rasul & Vollgraf 2017 (arXiv:1708.07747); MIT",
            read_idx_pair,
            Part(_IDX_TRAIN, (60000,)),
            Part(_IDX_TEST, (10000,)),
            class_names.FASHION,
            GREY,
            folders=("FashionMNIST/raw", "fashion-mnist"),  # torchvision's, Debian's
            mirrors=(
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ),
            remotes=_idx_remotes(
                "FashionMNIST/raw",
                (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
                (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
                (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
                (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
            ),
            package="dataset-fashion-mnist",
        ),
        Entry(
            "kmnist",
            "Kuzushiji-MNIST",
            "Clanuwat et al. 2018 (arXiv:1812.01718), ROIS-DS CODH; CC BY-SA 4.0",
            read_idx_pair,
            Part(_IDX_TRAIN, (60000,)),
            Part(_IDX_TEST, (10000,)),
            class_names.KUZUSHIJI,
            GREY,
            folders=("KMNIST/raw",),
            mirrors=(
                "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
                "https://web.archive.org/web/2020id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            ),
            remotes=_idx_remotes(
                "KMNIST/raw",
                (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
                (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
                (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
                (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
            ),
        ),
        _emnist("byclass", (697932,), (116323,)),
        _emnist("bymerge", (697932,), (116323,)),
        _emnist("balanced", (112800,), (18800,)),
        _emnist("letters", (124800, 88800), (20800, 14800)),  # as distributed, and as stated in the paper
        _emnist("digits", (240000,), (40000,)),
        _emnist("mnist", (60000,), (10000,)),
        Entry(
            "cifar10",
            "CIFAR-10",
            "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
            read_cifar,
            Part(tuple(f"data_batch_{i}.bin" for i in range(1, 6)), (50000,)),
            Part(("test_batch.bin",), (10000,)),
            class_names.CIFAR10,
            COLOUR,
            folders=("cifar-10-batches-bin",),
            mirrors=(
                "https://www.cs.toronto.edu/~kriz/",
                "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
            ),
            remotes=(
                Remote(
                    "cifar-10-binary.tar.gz",
                    170052171,
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                ),
            ),
        ),
        Entry(
            "cifar100",
            "CIFAR-100",
            "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
            read_cifar,
            Part(("train.bin",), (50000,)),
            Part(("test.bin",), (10000,)),
            class_names.CIFAR100,
            COLOUR,
            folders=("cifar-100-binary",),
            mirrors=(
                "https://www.cs.toronto.edu/~kriz/",
                "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/",
            ),
            remotes=(
                Remote(
                    "cifar-100-binary.tar.gz",
                    168513733,
                    "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                ),
            ),
        ),
        Entry(
            "shapeset",
            "Shapeset-3x2",
            "Glorot & Bengio 2010, sec. 2.1; generated on demand, see Shapeset",
            read_shapeset,
            Part(counts=(100_000,)),  # the training set size of the paper's SVM
            Part(counts=(10_000,)),
            Shapeset().names,
            (1, 32, 32),
        ),
        Entry(
            "folder",
            "Image folder",
            "the user's images: <root>/train/<class>/<image> and <root>/test/<class>/<image>",
            read_folder,
            Part(("train",)),
            Part(("test",)),
            folders=("",),
        ),
    )
}

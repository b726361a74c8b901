"""Data sets: readers with checks and downloads, synthetic images and text, augmentation, and seeded batch order."""

from thruway.data.augment import contrast_normalised, shifted_and_mirrored
from thruway.data.cifar import read_cifar_binary
from thruway.data.data_roots import search_roots
from thruway.data.datasets import DATASETS
from thruway.data.download import fetch
from thruway.data.entry import Entry, Raw, Remote
from thruway.data.folder import ImageFolder
from thruway.data.idx import read_idx
from thruway.data.loading import dataset, load, read
from thruway.data.obtain import obtain
from thruway.data.shapeset import SHAPESET_STARTS, Shapeset
from thruway.data.shapeset_classes import SHAPE_CLASSES, shape_classes
from thruway.data.tensor_set import TensorSet, batches, permutation, steps_per_epoch
from thruway.data.text import TextSet, python_docs, split_text
from thruway.data.vision import CIFAR10, CIFAR100, EMNIST, KMNIST, MNIST, FashionMNIST

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DATASETS",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "SHAPESET_STARTS",
    "SHAPE_CLASSES",
    "Entry",
    "FashionMNIST",
    "ImageFolder",
    "Raw",
    "Remote",
    "Shapeset",
    "TensorSet",
    "TextSet",
    "batches",
    "contrast_normalised",
    "dataset",
    "fetch",
    "load",
    "obtain",
    "permutation",
    "python_docs",
    "read",
    "read_cifar_binary",
    "read_idx",
    "search_roots",
    "shape_classes",
    "shifted_and_mirrored",
    "split_text",
    "steps_per_epoch",
]

"""Data: datasets, samplers, a loader that prepares batches ahead, and readers of the usual image files."""

from .collate import default_collate, default_convert
from .dataset import ConcatDataset, Dataset, Subset, TensorDataset, random_split
from .images import CIFAR10, CIFAR100, MNIST, FashionMNIST, digits
from .loader import DataLoader
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler
from .transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, Transform

__all__ = [
    "CIFAR10", "CIFAR100", "MNIST", "BatchSampler", "Compose", "ConcatDataset", "DataLoader", "Dataset", "FashionMNIST",
    "Normalize", "RandomCrop", "RandomHorizontalFlip", "RandomSampler", "Sampler", "SequentialSampler", "Subset",
    "TensorDataset", "Transform", "default_collate", "default_convert", "digits", "random_split",
]  # fmt: skip

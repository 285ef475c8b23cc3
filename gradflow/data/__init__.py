"""Data: datasets, samplers, a loader that prepares batches ahead, and readers of the usual image files."""

from .collate import default_collate, default_convert
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)  # fmt: skip
from .grid import make_grid
from .images import CIFAR10, CIFAR100, MNIST, FashionMNIST, digits, images_in
from .loader import DataLoader, WorkerInfo, get_worker_info
from .sampler import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)  # fmt: skip
from .transfer import prefetch
from .transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip, Transform

__all__ = [
    "CIFAR10", "CIFAR100", "MNIST", "BatchSampler", "ChainDataset", "Compose", "ConcatDataset", "DataLoader", "Dataset",
    "DistributedSampler", "FashionMNIST", "IterableDataset", "Normalize", "RandomCrop", "RandomHorizontalFlip",
    "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset",
    "Transform", "WeightedRandomSampler", "WorkerInfo", "default_collate", "default_convert", "digits", "get_worker_info",
    "images_in", "make_grid", "prefetch", "random_split",
]  # fmt: skip

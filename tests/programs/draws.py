"""What PyTorch's generator gives for some seeds, as JSON: every kind of draw, and what stands on them."""

import json

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import data

numbers = data.TensorDataset(torch.arange(12))


def batches(loader):
    return torch.cat([b[0].reshape(-1) for b in loader])


def state_of(module):
    return torch.cat([v.reshape(-1).double() for v in module.state_dict().values()])


class Noise(data.Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, i):
        return torch.rand(2) + i


class Stream(data.IterableDataset):
    def __iter__(self):
        return (torch.rand(1) for _ in range(5))


def noise(workers):
    return torch.cat([b.reshape(-1) for b in data.DataLoader(Noise(), 2, shuffle=True, num_workers=workers)])


def stream(workers):
    return torch.cat([b.reshape(-1) for b in data.DataLoader(Stream(), 2, num_workers=workers)])


def twice():
    return torch.cat([torch.randn(3), torch.randn(4)])


def again():
    state = torch.get_rng_state()
    first = torch.randn(3)
    torch.set_rng_state(state)
    return torch.stack([first, torch.randn(3)])


def forked():
    with torch.random.fork_rng():
        torch.randn(5)
    return torch.randn(5)


def own(seed=3):
    return torch.Generator().manual_seed(seed)


def recurrent():
    layer = nn.LSTM(3, 2, 2, dropout=0.5, bidirectional=True, batch_first=True)
    return layer(torch.randn(2, 4, 3))[0]


def attended(weights):
    layer = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)
    x = torch.randn(2, 3, 4)
    return layer(x, x, x, need_weights=weights)[0]


probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 0.0, 3.0]])
init = nn.init
DRAWS = {
    "rand": lambda: torch.rand(5),
    "rand float64": lambda: torch.rand(5, dtype=torch.float64),
    "rand float16": lambda: torch.rand(40, dtype=torch.float16),
    "rand bfloat16": lambda: torch.rand(300, dtype=torch.bfloat16)[-5:],
    "randn": lambda: torch.randn(7),
    "randn many": lambda: torch.randn(35),
    "randn float64": lambda: torch.randn(35, dtype=torch.float64),
    "randn float16": lambda: torch.randn(35, dtype=torch.float16),
    "randn complex": lambda: torch.randn(4, dtype=torch.complex64).real,
    "a normal is left": twice,
    "randn_like": lambda: torch.randn_like(torch.ones(3, 4)),
    "normal": lambda: torch.normal(torch.arange(4.0), torch.full((4,), 2.0)),
    "normal_": lambda: torch.empty(20).normal_(1, 0.02),
    "uniform_": lambda: torch.empty(20).uniform_(-0.3, 0.7),
    "exponential_": lambda: torch.empty(5).exponential_(2),
    "bernoulli_": lambda: torch.empty(12).bernoulli_(0.3),
    "bernoulli": lambda: torch.bernoulli(torch.full((12,), 0.3)),
    "randint": lambda: torch.randint(-7, 20, (9,)),
    "randint wide": lambda: torch.randint(0, 2**40, (3,)),
    "random_": lambda: torch.empty(3, dtype=torch.int64).random_(),
    "random_ int32": lambda: torch.empty(3, dtype=torch.int32).random_(),
    "random_ between": lambda: torch.empty(6).random_(3, 9),
    "randperm": lambda: torch.randperm(12),
    "multinomial": lambda: torch.multinomial(probabilities, 6, True),
    "multinomial one": lambda: torch.multinomial(probabilities, 1),
    "multinomial without": lambda: torch.multinomial(probabilities, 3),
    "poisson": lambda: torch.poisson(torch.tensor([3.0, 0.5, 20.0, 0.0, 90.0])),
    "geometric_": lambda: torch.empty(5).geometric_(0.3),
    "cauchy_": lambda: torch.empty(5).cauchy_(),
    "log_normal_": lambda: torch.empty(5).log_normal_(),
    "dropout": lambda: F.dropout(torch.ones(3, 5), 0.3),
    "dropout of a transposed tensor": lambda: F.dropout(torch.ones(3, 5).t(), 0.3),
    "dropout2d": lambda: F.dropout2d(torch.ones(3, 5, 2, 2), 0.3)[:, :, 0, 0],
    "alpha_dropout": lambda: F.alpha_dropout(torch.ones(3, 5), 0.3, True),
    "gumbel_softmax": lambda: F.gumbel_softmax(torch.ones(2, 3)),
    "attention": lambda: F.scaled_dot_product_attention(*(torch.arange(24.0).view(2, 3, 4) / 9,) * 3, dropout_p=0.4),
    "trunc_normal_": lambda: init.trunc_normal_(torch.empty(4, 6), std=0.5, a=-0.5, b=0.5),
    "xavier_uniform_": lambda: init.xavier_uniform_(torch.empty(4, 6)),
    "kaiming_normal_": lambda: init.kaiming_normal_(torch.empty(4, 6)),
    "orthogonal_": lambda: init.orthogonal_(torch.empty(6, 4)),
    "sparse_": lambda: init.sparse_(torch.empty(6, 4), 0.3),
    "Linear": lambda: state_of(nn.Linear(3, 4)),
    "Conv2d": lambda: state_of(nn.Conv2d(2, 3, 2)),
    "Embedding": lambda: state_of(nn.Embedding(5, 4)),
    "GRU": lambda: state_of(nn.GRU(2, 3)),
    "MultiheadAttention": lambda: state_of(nn.MultiheadAttention(4, 2)),
    "TransformerDecoderLayer": lambda: state_of(nn.TransformerDecoderLayer(4, 2, 3)),
    "LSTM with dropout": recurrent,
    "MultiheadAttention with dropout": lambda: attended(False),
    "MultiheadAttention with dropout and weights": lambda: attended(True),
    "loader": lambda: batches(data.DataLoader(numbers, 5, shuffle=True)),
    "loader twice": lambda: torch.cat([batches(loader) for loader in [data.DataLoader(numbers, 5, shuffle=True)] * 2]),
    "loader with workers": lambda: batches(data.DataLoader(numbers, 5, shuffle=True, num_workers=2)),
    "loader with a generator": lambda: batches(data.DataLoader(numbers, 5, shuffle=True, generator=own())),
    "loader with replacement": lambda: batches(
        data.DataLoader(numbers, 5, sampler=data.RandomSampler(numbers, True, 40))
    ),
    "loader of a subset": lambda: batches(data.DataLoader(numbers, 5, sampler=data.SubsetRandomSampler(range(3, 9)))),
    "loader by weights": lambda: batches(data.DataLoader(numbers, 5, sampler=data.WeightedRandomSampler(range(12), 9))),
    "draws in the loop": lambda: noise(0),
    "draws in workers": lambda: noise(3),
    "streams of workers": lambda: stream(2),
    "a part of a loader": lambda: torch.tensor(list(data.DistributedSampler(numbers, 2, 1, seed=4))),
    "random_split": lambda: torch.tensor(list(data.random_split(numbers, [9, 3])[1].indices)),
    "random_split by a generator": lambda: torch.tensor(
        list(data.random_split(numbers, [0.5, 0.5], generator=own())[1].indices)
    ),
    "a state": again,
    "fork_rng": forked,
    "binomial": lambda: torch.binomial(torch.tensor([10.0, 40.0, 300.0]), torch.tensor([0.3, 0.9, 0.4])),
    "gamma": lambda: torch.distributions.Gamma(torch.tensor([0.5, 2.0]), 1.0).sample((3,)),
    "laplace": lambda: torch.distributions.Laplace(torch.zeros(3), 1.0).sample(),
    "rrelu": lambda: F.rrelu(torch.linspace(-1, 1, 9), training=True),
    "randn_like of channels last": lambda: torch.randn_like(torch.empty(2, 3, 3, 2).permute(0, 3, 1, 2)),
    "uniform_ into a part": lambda: torch.zeros(4, 6)[:, ::2].uniform_(),
    "normal_ into a transposed tensor": lambda: torch.empty(4, 6).t().normal_(),
}

if __name__ == "__main__":
    found = {}
    for name, draw in DRAWS.items():
        torch.manual_seed(7)
        values = draw().detach().double().flatten().tolist()
        found[name] = [values, torch.randint(2**27, (1,)).item()]  # and that as many words were drawn
    print(json.dumps(found, indent=0))

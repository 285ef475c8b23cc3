"""Sentences into sentences: a GRU that attends to another one's steps, and pairs of sentences through packed LSTMs."""

import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

START, END, LONGEST = 0, 1, 6
PAIRS = [
    ("je suis ici", "i am here"), ("tu es la", "you are there"), ("il est grand", "he is tall"),
    ("elle est grande", "she is tall"), ("nous sommes la", "we are there"), ("je suis grand", "i am tall"),
]  # fmt: skip


def numbered(lines):
    words = {w: i + 2 for i, w in enumerate(dict.fromkeys(" ".join(lines).split()))}
    ids = np.zeros((len(lines), LONGEST), dtype=np.int32)
    for row, line in zip(ids, lines):
        found = [words[w] for w in line.split()] + [END]
        row[: len(found)] = found
    return words, ids


class Encoder(nn.Module):
    def __init__(self, words, size):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(words, size), nn.GRU(size, size, batch_first=True)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        return self.gru(self.dropout(self.embedding(x)))


class Decoder(nn.Module):
    def __init__(self, size, words):
        super().__init__()
        self.embedding, self.dropout = nn.Embedding(words, size), nn.Dropout(0.1)
        self.a, self.b, self.c = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, 1)
        self.gru, self.out = nn.GRU(2 * size, size, batch_first=True), nn.Linear(size, words)

    def forward(self, steps, state, target=None):
        x, outputs = torch.empty(steps.size(0), 1, dtype=torch.long).fill_(START), []
        for i in range(LONGEST):
            scores = self.c(torch.tanh(self.a(state.permute(1, 0, 2)) + self.b(steps))).squeeze(2).unsqueeze(1)
            context = torch.bmm(F.softmax(scores, dim=-1), steps)
            y, state = self.gru(torch.cat((self.dropout(self.embedding(x)), context), dim=2), state)
            y = self.out(y)
            outputs.append(y)
            x = y.topk(1)[1].squeeze(-1).detach() if target is None else target[:, i].unsqueeze(1)
        return F.log_softmax(torch.cat(outputs, dim=1), dim=-1)


torch.manual_seed(10)
random.seed(10)
source, x = numbered([a for a, _ in PAIRS])
goal, y = numbered([b for _, b in PAIRS])
data = TensorDataset(torch.LongTensor(x), torch.LongTensor(y))
loader = DataLoader(data, sampler=RandomSampler(data), batch_size=4)
encoder, decoder = Encoder(len(source) + 2, 16), Decoder(16, len(goal) + 2)
optimizers = [optim.Adam(m.parameters(), lr=0.01) for m in (encoder, decoder)]
for epoch in range(5):
    total = 0
    for a, b in loader:
        for o in optimizers:
            o.zero_grad()
        scores = decoder(*encoder(a), b)
        loss = nn.NLLLoss()(scores.view(-1, scores.size(-1)), b.view(-1))
        loss.backward()
        for o in optimizers:
            o.step()
        total += loss.item()
    print(epoch, "%.6f" % (total / len(loader)))
encoder.eval(), decoder.eval()
with torch.no_grad():
    print(decoder(*encoder(data.tensors[0][:2])).argmax(-1))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.bag = nn.Embedding(20, 8, padding_idx=0), nn.EmbeddingBag(20, 6, mode="mean")
        self.rnn = nn.LSTM(8, 6, num_layers=2, dropout=0.2, bidirectional=True, batch_first=True)
        self.out = nn.Sequential(nn.Linear(30, 12), nn.ReLU(), nn.Dropout(p=0.2), nn.Linear(12, 3))

    def side(self, x, lengths):
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        y, (h, _) = self.rnn(packed)
        y, n = pad_packed_sequence(y, batch_first=True)
        assert n.tolist() == lengths.tolist()
        return h[-2:].transpose(0, 1).contiguous().view(x.size(0), -1)

    def forward(self, a, n, b, m):
        p, q = self.side(a, n), self.side(b, m)
        flat = torch.cat([row[:k] for row, k in zip(a, n.tolist())])
        bags = self.bag(flat, torch.cat([n.new_zeros(1), n.cumsum(0)[:-1]]))
        return self.out(torch.cat([(p - q).abs(), p * q, bags], 1))


net = Pair()
optimizer = optim.RMSprop(net.parameters(), lr=2e-3)
for i in range(5):
    n, m = torch.randint(2, 7, (10,)), torch.randint(2, 7, (10,))
    a, b = (
        pad_sequence([torch.randint(1, 20, (k,)) for k in lengths.tolist()], batch_first=True) for lengths in (n, m)
    )
    optimizer.zero_grad()
    loss = F.cross_entropy(net(a, n, b, m), (n - m).sign() + 1)
    loss.backward()
    optimizer.step()
    print("pairs", i, f"{loss.item():.6f}")

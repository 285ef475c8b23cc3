"""Language models of words: recurrent ones with tied weights and a transformer, trained by hand-written steps."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

TEXT = "a fox ran up a hill and a dog ran down a hill while a cat slept on a log and a fox sang to a cat " * 12
WORDS = sorted(set(TEXT.split()))


class Recurrent(nn.Module):
    def __init__(self, kind, size, layers, dropout, tied):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(len(WORDS), size)
        self.rnn = getattr(nn, kind)(size, size, layers, dropout=dropout)
        self.decoder = nn.Linear(size, len(WORDS))
        if tied:
            self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, x, state=None):
        y, state = self.rnn(self.drop(self.encoder(x)), state)
        return F.log_softmax(self.decoder(self.drop(y)), dim=-1), state


class Positions(nn.Module):
    def __init__(self, size, dropout, longest=50):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        at = torch.arange(longest, dtype=torch.float).unsqueeze(1)
        rate = torch.exp(torch.arange(0, size, 2).float() * (-math.log(10000.0) / size))
        table = torch.zeros(longest, 1, size)
        table[:, 0, 0::2], table[:, 0, 1::2] = torch.sin(at * rate), torch.cos(at * rate)
        self.register_buffer("table", table)

    def forward(self, x):
        return self.dropout(x + self.table[: x.size(0)])


class Attentive(nn.Module):
    def __init__(self, size, heads, dropout):
        super().__init__()
        self.embed, self.positions = nn.Embedding(len(WORDS), size), Positions(size, dropout)
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(size, heads, 24, dropout), 2, enable_nested_tensor=False
        )
        self.out, self.size = nn.Linear(size, len(WORDS)), size

    def forward(self, x, state=None):
        mask = nn.Transformer.generate_square_subsequent_mask(len(x))
        y = self.layers(self.positions(self.embed(x) * math.sqrt(self.size)), mask=mask)
        return F.log_softmax(self.out(y), dim=-1), None


def detached(state):
    return tuple(detached(s) for s in state) if isinstance(state, tuple) else None if state is None else state.detach()


ids = torch.tensor([WORDS.index(w) for w in TEXT.split()])
data = ids.narrow(0, 0, len(ids) // 6 * 6).view(6, -1).t().contiguous()
for name in ("RNN", "LSTM", "GRU", "Transformer"):
    torch.manual_seed(1111)
    model = Attentive(16, 2, 0.2) if name == "Transformer" else Recurrent(name, 16, 2, 0.2, tied=name == "LSTM")
    model.train()
    state = None
    for i in range(0, len(data) - 1, 8):
        n = min(8, len(data) - 1 - i)
        model.zero_grad()
        output, state = model(data[i : i + n], detached(state))
        loss = nn.NLLLoss()(output.view(-1, len(WORDS)), data[i + 1 : i + 1 + n].reshape(-1))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        for p in model.parameters():
            p.data.add_(p.grad, alpha=-4.0)
        print(f"{name} {i} loss {loss.item():.5f} norm {norm:.4f}")
    model.eval()
    with torch.no_grad():
        said, state = torch.randint(len(WORDS), (1, 1), dtype=torch.long), None
        for _ in range(6):
            output, state = model(said if name == "Transformer" else said[-1:], state)
            word = torch.multinomial(output[-1, 0].div(0.8).exp(), 1)
            said = torch.cat([said, word.view(1, 1)])
    print(" ".join(WORDS[i] for i in said[:, 0]))

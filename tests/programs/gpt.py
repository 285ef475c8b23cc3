"""A small GPT that learns to sort, with decay for some parameters only, clipped gradients, and sampling at the end."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F
from torch.utils.data import Dataset, RandomSampler
from torch.utils.data.dataloader import DataLoader


@dataclass
class Config:
    vocabulary: int = 3
    length: int = 11
    layers: int = 2
    heads: int = 2
    width: int = 24
    dropout: float = 0.1
    learning_rate: float = 3e-3


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.qkv, self.proj = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)
        self.drop, self.last = nn.Dropout(c.dropout), nn.Dropout(c.dropout)
        self.register_buffer("seen", torch.tril(torch.ones(c.length, c.length)).view(1, 1, c.length, c.length))
        self.heads = c.heads

    def forward(self, x):
        n, t, d = x.size()
        q, k, v = (z.view(n, t, self.heads, d // self.heads).transpose(1, 2) for z in self.qkv(x).split(d, dim=2))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        scores = scores.masked_fill(self.seen[:, :, :t, :t] == 0, float("-inf"))
        y = self.drop(F.softmax(scores, dim=-1)) @ v
        return self.last(self.proj(y.transpose(1, 2).contiguous().view(n, t, d)))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.attention, self.ln_2 = nn.LayerNorm(c.width), Attention(c), nn.LayerNorm(c.width)
        self.mlp = nn.ModuleDict({
            "enter": nn.Linear(c.width, 4 * c.width), "act": nn.GELU(approximate="tanh"),
            "proj": nn.Linear(4 * c.width, c.width), "drop": nn.Dropout(c.dropout),
        })  # fmt: skip

    def forward(self, x):
        x = x + self.attention(self.ln_1(x))
        m = self.mlp
        return x + m.drop(m.proj(m.act(m.enter(self.ln_2(x)))))


class GPT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.tokens, self.places = nn.Embedding(c.vocabulary, c.width), nn.Embedding(c.length, c.width)
        self.drop, self.blocks = nn.Dropout(c.dropout), nn.ModuleList([Block(c) for _ in range(c.layers)])
        self.ln, self.head = nn.LayerNorm(c.width), nn.Linear(c.width, c.vocabulary, bias=False)
        self.apply(self._begin)
        for name, p in self.named_parameters():
            if name.endswith("proj.weight"):
                torch.nn.init.normal_(p, mean=0.0, std=0.02 / math.sqrt(2 * c.layers))
        print("%d parameters" % sum(p.numel() for p in self.parameters()))

    def _begin(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if getattr(module, "bias", None) is not None:
                torch.nn.init.zeros_(module.bias)

    def forward(self, x, y=None):
        at = torch.arange(0, x.size(1), dtype=torch.long, device=x.device).unsqueeze(0)
        h = self.drop(self.tokens(x) + self.places(at))
        for block in self.blocks:
            h = block(h)
        logits = self.head(self.ln(h))
        loss = None if y is None else F.cross_entropy(logits.view(-1, logits.size(-1)), y.view(-1), ignore_index=-1)
        return logits, loss

    @torch.no_grad()
    def generate(self, x, n, top_k=None, sample=False):
        for _ in range(n):
            logits = self(x[:, -self.c.length :])[0][:, -1, :]
            if top_k is not None:
                best, _ = torch.topk(logits, top_k)
                logits[logits < best[:, [-1]]] = -float("Inf")
            p = F.softmax(logits, dim=-1)
            x = torch.cat((x, torch.multinomial(p, num_samples=1) if sample else p.topk(1, dim=-1)[1]), dim=1)
        return x


class Sorting(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        given = torch.randint(3, size=(6,), dtype=torch.long)
        whole = torch.cat((given, torch.sort(given)[0]))
        x, y = whole[:-1].clone(), whole[1:].clone()
        y[:5] = -1
        return x, y


torch.manual_seed(3407)
torch.cuda.manual_seed_all(3407)
config = Config()
model = GPT(config)
decayed = [p for p in model.parameters() if p.dim() >= 2]
others = [p for p in model.parameters() if p.dim() < 2]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))
data = Sorting()
batches = iter(DataLoader(data, sampler=RandomSampler(data, replacement=True, num_samples=int(1e10)), batch_size=16))
scaler = torch.amp.GradScaler("cuda", enabled=False)
for i in range(16):
    x, y = next(batches)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False):
        _, loss = model(x, y)
    model.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    print(f"{i} {loss.item():.5f}")
model.eval()
start = torch.tensor([[0, 0, 2, 1, 0, 1]], dtype=torch.long)
print(model.generate(start, 6, top_k=2, sample=True), model.generate(start, 3).shape)

"""Layers that move things about: a spatial transformer, unpooling, resizing, bags of words, and CTC over a GRU."""

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(1, 4, 5),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
            nn.Conv2d(4, 6, 3),
            nn.MaxPool2d(2, 2),
            nn.ReLU(True),
        )
        self.fc = nn.Sequential(nn.Linear(6 * 5 * 5, 16), nn.ReLU(True), nn.Linear(16, 6))
        self.fc[2].weight.data.zero_()
        self.fc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.out = nn.Linear(28 * 28, 10)

    def forward(self, x):
        theta = self.fc(self.localization(x).flatten(1)).view(-1, 2, 3)
        x = F.grid_sample(x, F.affine_grid(theta, x.size(), align_corners=False), align_corners=False)
        x = self.unpool(*self.pool(x))
        x = F.interpolate(self.up(x), size=(28, 28), mode="bicubic", antialias=True)
        return self.out(x.flatten(1))


class Speech(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(6, 12, bidirectional=True)
        self.attention = nn.MultiheadAttention(24, 3)
        self.out = nn.Linear(24, 5)

    def forward(self, x):
        y, _ = self.rnn(x)
        y = y + self.attention(y, y, y, need_weights=False)[0]
        return self.out(y).log_softmax(-1)


def train(model, optimizer, loss, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss(model)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(f"{type(model).__name__} {value.item():.5f}")


x, t = torch.randn(8, 1, 28, 28), torch.randint(0, 10, (8,))
model = Transformer()
train(model, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9), lambda m: F.cross_entropy(m(x), t), 5)

model = nn.EmbeddingBag(50, 3, mode="mean", padding_idx=0)
words, starts, labels = torch.randint(0, 50, (20,)), torch.tensor([0, 4, 9, 15]), torch.tensor([0, 1, 2, 0])
train(model, torch.optim.Adam(model.parameters(), 0.05), lambda m: F.cross_entropy(m(words, starts), labels), 4)

x, targets = torch.randn(12, 4, 6), torch.randint(1, 5, (4, 5))
steps, lengths = torch.full((4,), 12, dtype=torch.long), torch.randint(1, 6, (4,), dtype=torch.long)
model, ctc = Speech(), nn.CTCLoss(zero_infinity=True)
train(model, torch.optim.AdamW(model.parameters(), 0.01), lambda m: ctc(m(x), targets, steps, lengths), 5)

model = nn.Sequential(
    nn.Conv3d(1, 4, 3, padding=1, stride=2), nn.BatchNorm3d(4), nn.ReLU(),
    nn.ConvTranspose3d(4, 2, 3, stride=2, padding=1, output_padding=1), nn.LPPool3d(2, 2), nn.Flatten(), nn.LazyLinear(3),
)  # fmt: skip
print(f"volumes {model(torch.randn(2, 1, 8, 8, 8)).pow(2).sum().item():.5f}")
columns = F.unfold(torch.randn(1, 2, 6, 6), 3, padding=1)
print(f"columns {F.fold(columns, (6, 6), 3, padding=1).abs().sum().item():.4f}")
y = F.fractional_max_pool2d(torch.randn(1, 2, 8, 8), 2, output_ratio=(0.6, 0.6))
print("fractional", tuple(y.shape), f"{y.sum().item():.4f}")
z = torch.randn(2, 3, 5, dtype=torch.complex64, requires_grad=True)
F.conv1d(z, torch.randn(4, 3, 2, dtype=torch.complex64)).abs().sum().backward()
print(f"complex {z.grad.abs().sum().item():.4f}")

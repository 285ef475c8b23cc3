"""Sine waves foretold by two LSTM cells in float64, learnt by LBFGS; a line by hand-written steps."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.LSTMCell(1, 9), nn.LSTMCell(9, 9), nn.Linear(9, 1)

    def forward(self, input, future=0):
        h, c, h2, c2 = (torch.zeros(input.size(0), 9, dtype=torch.double) for _ in range(4))
        outputs = []
        for x in input.split(1, dim=1):
            h, c = self.first(x, (h, c))
            h2, c2 = self.second(h, (h2, c2))
            outputs += [self.out(h2)]
        for _ in range(future):
            h, c = self.first(outputs[-1], (h, c))
            h2, c2 = self.second(h, (h2, c2))
            outputs += [self.out(h2)]
        return torch.cat(outputs, dim=1)


np.random.seed(0)
torch.manual_seed(0)
start = np.random.randint(-80, 80, 6).reshape(6, 1)
waves = np.sin((np.arange(30) + start) / 20.0).astype("float64")
x, y = torch.from_numpy(waves[2:, :-1]), torch.from_numpy(waves[2:, 1:])
model = Sequence()
model.double()
criterion = nn.MSELoss()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.8, max_iter=10)


def closure():
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    print("loss:", loss.item())
    loss.backward()
    return loss


optimizer.step(closure)
with torch.no_grad():
    told = model(torch.from_numpy(waves[:2, :-1]), future=3)
    print("test loss:", criterion(told[:, :-3], torch.from_numpy(waves[:2, 1:])).item())
    print(told.detach().numpy()[0, -3:])

weights, bias = torch.randn(4, 1) * 5, torch.randn(1) * 5
fc = torch.nn.Linear(weights.size(0), 1)
for i in range(60):
    u = torch.randn(32).unsqueeze(1)
    powers = torch.cat([u**k for k in range(1, 5)], 1)
    fc.zero_grad()
    loss = F.smooth_l1_loss(fc(powers), powers.mm(weights) + bias.item())
    loss.backward()
    for p in fc.parameters():
        p.data.add_(-0.1 * p.grad)
    if i % 20 == 0:
        print(i, f"{loss.item():.5f}")
print("y = " + " ".join(f"{w.item():+.3f} x^{i + 1}" for i, w in enumerate(fc.weight.view(-1))), fc.bias)

"""A variational autoencoder of digits, and a pair of convolutional networks that learn against each other."""

import torch
import torch.utils.data
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.nn import functional as F

torch.manual_seed(1)
images = torch.from_numpy(load_digits().images[:256].astype("float32") / 16).unsqueeze(1)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(images, torch.zeros(256)), batch_size=64, shuffle=True
)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.mean, self.spread = nn.Linear(64, 32), nn.Linear(32, 4), nn.Linear(32, 4)
        self.decode = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid())

    def forward(self, x):
        h = F.relu(self.enter(x.view(-1, 64)))
        mean, log_variance = self.mean(h), self.spread(h)
        std = torch.exp(0.5 * log_variance)
        return self.decode(mean + torch.randn_like(std) * std), mean, log_variance


model = VAE()
optimizer = optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(2):
    for batch, (x, _) in enumerate(loader):
        optimizer.zero_grad()
        y, mean, log_variance = model(x)
        fit = F.binary_cross_entropy(y, x.view(-1, 64), reduction="sum")
        loss = fit - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
        loss.backward()
        optimizer.step()
        print(f"vae {epoch} {batch} {loss.item() / len(x):.6f}")
with torch.no_grad():
    print(model.decode(torch.randn(2, 4)).view(2, 8, 8)[0, 2:4])


def begin(m):
    kind = m.__class__.__name__
    if kind.find("Conv") != -1:
        nn.init.normal_(m.weight, 0.0, 0.02)
    elif kind.find("BatchNorm") != -1:
        nn.init.normal_(m.weight, 1.0, 0.02)
        nn.init.zeros_(m.bias)


maker = nn.Sequential(
    nn.ConvTranspose2d(8, 12, 2, 1, 0, bias=False), nn.BatchNorm2d(12), nn.ReLU(True),
    nn.ConvTranspose2d(12, 6, 4, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(True),
    nn.ConvTranspose2d(6, 1, 4, 2, 1, bias=False), nn.Tanh(),
)  # fmt: skip
judge = nn.Sequential(
    nn.Conv2d(1, 6, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(6, 12, 4, 2, 1, bias=False),
    nn.BatchNorm2d(12), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(12, 1, 2, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0),
)  # fmt: skip
maker.apply(begin)
judge.apply(begin)
print(judge)
criterion, device = nn.BCELoss(), torch.device("cpu")
judges = optim.Adam(judge.parameters(), lr=5e-4, betas=(0.5, 0.999))
makers = optim.Adam(maker.parameters(), lr=5e-4, betas=(0.5, 0.999))
for x, _ in loader:
    x = x * 2 - 1
    judge.zero_grad()
    label = torch.full((x.size(0),), 1.0, dtype=x.dtype, device=device)
    real = criterion(judge(x), label)
    real.backward()
    fake = maker(torch.randn(x.size(0), 8, 1, 1, device=device))
    label.fill_(0)
    false = criterion(judge(fake.detach()), label)
    false.backward()
    judges.step()
    maker.zero_grad()
    label.fill_(1)
    output = judge(fake)
    fooled = criterion(output, label)
    fooled.backward()
    makers.step()
    print("gan %.5f %.5f %.5f" % ((real + false).item(), fooled.item(), output.mean().item()))

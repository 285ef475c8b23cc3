"""A convolutional network that learns scikit-learn's digits: loaders, dropout, a schedule, a saved state."""

import argparse
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 3), nn.Conv2d(6, 12, 3)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.3)
        self.fc1, self.fc2 = nn.Linear(48, 24), nn.Linear(24, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv1(x)), inplace=True)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.drop(torch.flatten(x, 1))
        return F.log_softmax(self.fc2(F.relu(self.fc1(x))), dim=1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    x, y = load_digits(return_X_y=True)
    x = (torch.tensor(x[:700], dtype=torch.float32).view(-1, 1, 8, 8) / 16 - 0.3) / 0.4
    y = torch.as_tensor(y[:700], dtype=torch.long)
    train = DataLoader(TensorDataset(x[:500], y[:500]), batch_size=50, shuffle=True, num_workers=2, pin_memory=False)
    test = DataLoader(TensorDataset(x[500:], y[500:]), batch_size=100)
    model = Net().to(device)
    print(model)
    optimizer = optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    for epoch in range(args.epochs):
        model.train()
        for i, (data, target) in enumerate(train):
            data, target = data.to(device), target.to(device)
            optimizer.zero_grad()
            loss = F.nll_loss(model(data), target)
            loss.backward()
            optimizer.step()
            if i % 3 == 0:
                print("epoch {} [{}/{}] loss {:.6f}".format(epoch, i * len(data), len(train.dataset), loss.item()))
        scheduler.step()
        print("lr", scheduler.get_last_lr())
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.save(model.state_dict(), file.name)
        model = Net()
        print(model.load_state_dict(torch.load(file.name, map_location=device, weights_only=True)))
    model.eval()
    total, correct = 0.0, 0
    with torch.no_grad():
        for data, target in test:
            output = model(data)
            total += F.nll_loss(output, target, reduction="sum").item()
            correct += output.argmax(dim=1, keepdim=True).eq(target.view(-1, 1)).sum().item()
    print(f"test loss {total / len(test.dataset):.5f}, {correct} of {len(test.dataset)}")


if __name__ == "__main__":
    main()

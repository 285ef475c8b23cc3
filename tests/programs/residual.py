"""A residual network with smoothed labels, a cosine schedule, and a checkpoint of everything."""

import os
import tempfile
from typing import Any, Callable, List, Optional, Type, Union

import torch
import torch.backends.cudnn as cudnn
import torch.nn as nn
from torch import Tensor


def conv3x3(a: int, b: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(a, b, kernel_size=3, stride=stride, padding=1, bias=False)


class Block(nn.Module):
    def __init__(self, a: int, b: int, stride: int = 1, norm: Optional[Callable[..., nn.Module]] = None) -> None:
        super().__init__()
        norm = norm or nn.BatchNorm2d
        self.conv1, self.bn1, self.conv2, self.bn2 = conv3x3(a, b, stride), norm(b), conv3x3(b, b), norm(b)
        self.relu = nn.ReLU(inplace=True)
        self.short: Union[nn.Module, None] = None
        if stride != 1 or a != b:
            self.short = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), norm(b))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.short is None else self.short(x)
        return self.relu(y)


class Net(nn.Module):
    def __init__(self, block: Type[Block], widths: List[int], classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 7, 2, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.body = nn.Sequential(*(block(a, b, 1 + (a != b)) for a, b in zip([6, *widths], widths)))
        self.pool, self.head = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(widths[-1], classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def forward(self, x: Tensor) -> Any:
        return self.head(torch.flatten(self.pool(self.body(self.stem(x))), 1))


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, guess = output.topk(max(topk), 1, True, True)
        right = guess.t().eq(target.view(1, -1).expand_as(guess.t()))
        return [right[:k].reshape(-1).float().sum(0, keepdim=True).mul_(100.0 / target.size(0)) for k in topk]


cudnn.benchmark = True
torch.manual_seed(2)
model = torch.nn.DataParallel(Net(Block, [6, 12]))
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)
images, labels = torch.randn(40, 3, 24, 24), torch.randint(0, 10, (40,))
for epoch in range(3):
    for i in torch.randperm(40).split(20):
        output = model(images[i])
        loss = criterion(output, labels[i])
        top1, top5 = accuracy(output, labels[i], topk=(1, 5))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(epoch, f"{loss.item():.5f} {top1.item():.1f} {top5.item():.1f} {optimizer.param_groups[0]['lr']:.5f}")
    scheduler.step()
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "checkpoint.pth.tar")
    parts = {"state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    torch.save({"epoch": epoch + 1, "best": top1, "arch": ("net", None), **parts}, path)
    saved = torch.load(path, map_location="cpu", weights_only=False)
model.load_state_dict(saved["state_dict"])
optimizer.load_state_dict(saved["optimizer"])
scheduler.load_state_dict(saved["scheduler"])
print(saved["epoch"], saved["best"], saved["arch"], list(saved["state_dict"])[:2])
model.eval()
with torch.inference_mode():
    print(model(images[:2])[:, :4])

"""A tour of tensors as tutorials give it: what is printed, memory shared with NumPy, gradients, functions of one's own."""

import copy
import io
import math
import pickle

import numpy as np
import torch

torch.manual_seed(0)
x = torch.rand(3, 4)
print(f"shape {x.shape}, dtype {x.dtype}, device {x.device}, {x.size()}")
print(x)
print(
    torch.ones_like(x, dtype=torch.int),
    torch.eye(2, dtype=torch.float64),
    torch.tensor([1.5e10, 2.0]),
    torch.tensor([True]),
)
print(x[0], x[:, 0], x[..., -1], x.T.shape, x.sum().item(), type(x.sum().item()))
x.add_(5)
print(x.mean(), x.std(dim=0), x.argmax(), x.max(dim=1).values, *x.min(0))
t = torch.ones(5)
n = t.numpy()
t.add_(1)
print(t, n, np.add(n, 1, out=n), t)
print(torch.from_numpy(np.arange(3)), torch.arange(3) * np.float64(2), np.sqrt(t))

a, b = torch.tensor([2.0, 3.0], requires_grad=True), torch.tensor([6.0, 4.0], requires_grad=True)
q = 3 * a**3 - b**2
q.backward(gradient=torch.tensor([1.0, 1.0]))
print(q, a.grad == 9 * a**2, b.grad, a.is_leaf, q.requires_grad, a)
print(
    torch.zeros(2).dtype is torch.float32, torch.float32.is_floating_point, isinstance(t.dtype, torch.dtype), t.type()
)


class Legendre(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * (5 * x**3 - 3 * x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 1.5 * (5 * x**2 - 1)


x = torch.linspace(-math.pi, math.pi, 200)
y = torch.sin(x)
w = [torch.full((), v, requires_grad=True) for v in (0.0, -1.0, 0.0, 0.3)]
for t in range(30):
    loss = (w[0] + w[1] * Legendre.apply(w[2] + w[3] * x) - y).pow(2).sum()
    loss.backward()
    with torch.no_grad():
        for v in w:
            v -= 1e-5 * v.grad
            v.grad = None
print(loss, w[1], w[3])
model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Flatten(0, 1))
powers = x.unsqueeze(-1).pow(torch.tensor([1, 2, 3]))
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for t in range(20):
    loss = torch.nn.MSELoss(reduction="sum")(model(powers), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(loss.item(), model[0].weight.grad.norm())
twin, again = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
print(torch.equal(twin(powers), model(powers)), torch.equal(again(powers), model(powers)))
file = io.BytesIO()
torch.save({"epoch": 3, "model": model.state_dict(), "rates": [0.1, (2, None)], 5: "five"}, file)
file.seek(0)
saved = torch.load(file)
print(saved["epoch"], saved["rates"], saved[5], list(saved["model"]))
print(
    torch.randperm(8),
    torch.randint(0, 10, (2, 3)),
    torch.randn(2, 2),
    torch.empty(3).uniform_(-1, 1),
    torch.bernoulli(torch.full((4,), 0.5)),
)
print(
    torch.nn.functional.one_hot(torch.arange(3) % 2),
    torch.where(y > 0.999, y, 0.0).nonzero().flatten(),
    torch.einsum("ij,kj->ik", powers[:2], powers[:2]),
)
print(
    torch.cat([x[:2], y[:2]]).view(2, 2).clamp(min=-1).softmax(1),
    torch.stack(torch.meshgrid(x[:2], y[:2], indexing="ij")).shape,
)
print(
    hasattr(torch, "compile"), torch.compile(model)(powers).shape, torch.jit.is_scripting(), torch.__version__ >= "2.0"
)
print(torch.tensor([[3.0, 1.0], [2.0, 5.0]]).max(dim=1), torch.tensor([3.0, 1.0, 2.0]).sort())

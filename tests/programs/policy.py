"""Actor and critic that balance a pole: sampled actions, their log-probabilities, returns from the end."""

from collections import namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.distributions import Categorical

Step = namedtuple("Step", ["log_prob", "value", "reward"])


class Pole:
    def __init__(self, seed):
        self.random = np.random.RandomState(seed)

    def reset(self):
        self.s = self.random.uniform(-0.05, 0.05, 4)
        return self.s

    def step(self, action):
        x, v, angle, w = self.s
        force = (10.0 if action else -10.0) + 0.05 * w * w * np.sin(angle)
        turn = (9.8 * np.sin(angle) - np.cos(angle) * force / 1.1) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
        self.s = np.array(
            [x + 0.02 * v, v + 0.02 * (force - 0.05 * turn * np.cos(angle)) / 1.1, angle + 0.02 * w, w + 0.02 * turn]
        )
        return self.s, 1.0, bool(abs(self.s[2]) > 0.2)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.actor, self.critic = nn.Linear(4, 24), nn.Linear(24, 2), nn.Linear(24, 1)

    def forward(self, x):
        x = F.relu(self.body(x))
        return F.softmax(self.actor(x), dim=-1), self.critic(x)


torch.manual_seed(543)
world, policy = Pole(5), Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-2)
for episode in range(5):
    state, steps, done = world.reset(), [], False
    while not done and len(steps) < 100:
        probabilities, value = policy(torch.from_numpy(state).float())
        choice = Categorical(probabilities)
        action = choice.sample()
        state, reward, done = world.step(action.item())
        steps.append(Step(choice.log_prob(action), value, reward))
    returns, total = [], 0.0
    for s in reversed(steps):
        total = s.reward + 0.99 * total
        returns.insert(0, total)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + np.finfo(np.float32).eps.item())
    losses = [
        -s.log_prob * (r - s.value.item()) + F.smooth_l1_loss(s.value, torch.tensor([r]))
        for s, r in zip(steps, returns)
    ]
    loss = torch.stack([v.sum() for v in losses]).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"episode {episode}: {len(steps)} steps, loss {loss.item():.4f}, entropy {choice.entropy().item():.4f}")

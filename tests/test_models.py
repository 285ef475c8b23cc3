"""Models as published programs write them, built of PyTorch and of gradflow by the same code: state, outputs, gradients.

Each builder is given the library and gives (model, step): step(model, *inputs) runs it, trains it if it likes, and gives
tensors to compare.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from tolerance import assert_close

import gradflow as gf

pytestmark = pytest.mark.reference
rng = np.random.default_rng(0)


def r(*shape):
    return rng.standard_normal(shape)


def residual(torch):
    """ResNet's block, in place; DenseNet's layers in a ModuleDict; squeeze and excitation by a Function of one's own."""
    nn, F = torch.nn, torch.nn.functional

    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, i):
            ctx.save_for_backward(i)
            return i * torch.sigmoid(i)

        @staticmethod
        def backward(ctx, g):
            (i,) = ctx.saved_tensors
            s = torch.sigmoid(i)
            return g * (s * (1 + i * (1 - s)))

    class Block(nn.Module):
        expansion: int = 1

        def __init__(self, inplanes, planes, stride=1, downsample=None):
            super().__init__()
            self.conv1 = nn.Conv2d(inplanes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.downsample = downsample

        def forward(self, x):
            identity = x
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(out))
            if self.downsample is not None:
                identity = self.downsample(x)
            out += identity
            return self.relu(out)

    class Dense(nn.ModuleDict):
        def __init__(self, layers, c, growth):
            super().__init__()
            for i in range(layers):
                self.add_module(
                    f"denselayer{i + 1}",
                    nn.Sequential(
                        nn.BatchNorm2d(c + i * growth),
                        nn.ReLU(inplace=True),
                        nn.Conv2d(c + i * growth, growth, 3, padding=1),
                    ),
                )

        def forward(self, x):
            features = [x]
            for layer in self.values():
                features.append(layer(torch.cat(features, 1)))
            return torch.cat(features, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 7, 2, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(True))
            self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
            self.layer1 = Block(4, 4)
            self.layer2 = Block(4, 6, 2, nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6)))
            self.dense = Dense(2, 6, 3)
            self.squeeze, self.excite = nn.Conv2d(12, 3, 1), nn.Conv2d(3, 12, 1)
            self.classifier = nn.Sequential(nn.Linear(12, 16), nn.Hardswish(inplace=True), nn.Linear(16, 5))
            for m in self.modules():
                if isinstance(m, nn.Conv2d):
                    nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
                    nn.init.constant_(m.weight, 1)
                    nn.init.constant_(m.bias, 0)

        def forward(self, x):
            x = self.dense(self.layer2(self.layer1(self.maxpool(self.stem(x)))))
            s = F.adaptive_avg_pool2d(x, 1)
            x = torch.sigmoid(self.excite(Swish.apply(self.squeeze(s)))) * x
            x = torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)
            return self.classifier(x)

    return Net(), lambda m, x: m(x)


def language_model(torch):
    """GPT with tied weights, grouped AdamW, clipping and generation."""
    nn, F = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(self, n, heads, size):
            super().__init__()
            self.c_attn, self.c_proj = nn.Linear(n, 3 * n), nn.Linear(n, n)
            self.register_buffer("bias", torch.tril(torch.ones(size, size)).view(1, 1, size, size))
            self.n, self.heads = n, heads

        def forward(self, x):
            B, T, C = x.size()
            q, k, v = self.c_attn(x).split(self.n, dim=2)
            q, k, v = (t.view(B, T, self.heads, C // self.heads).transpose(1, 2) for t in (q, k, v))
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :T, :T] == 0, float("-inf"))
            y = F.softmax(att, dim=-1) @ v
            return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))

    class Block(nn.Module):
        def __init__(self, n, heads, size):
            super().__init__()
            self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(n), Attention(n, heads, size), nn.LayerNorm(n)
            self.mlp = nn.ModuleDict(
                {"c_fc": nn.Linear(n, 4 * n), "c_proj": nn.Linear(4 * n, n), "act": nn.GELU("tanh")}
            )

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp.c_proj(self.mlp.act(self.mlp.c_fc(self.ln_2(x))))

    class GPT(nn.Module):
        def __init__(self, vocab=11, n=8, heads=2, size=8):
            super().__init__()
            self.size = size
            self.transformer = nn.ModuleDict(
                {
                    "wte": nn.Embedding(vocab, n),
                    "wpe": nn.Embedding(size, n),
                    "h": nn.ModuleList([Block(n, heads, size) for _ in range(2)]),
                    "ln_f": nn.LayerNorm(n),
                }
            )
            self.lm_head = nn.Linear(n, vocab, bias=False)
            self.transformer.wte.weight = self.lm_head.weight
            self.apply(self._init_weights)

        def _init_weights(self, module):
            if isinstance(module, (nn.Linear, nn.Embedding)):
                torch.nn.init.normal_(module.weight, mean=0.0, std=0.2)

        def forward(self, idx, targets=None):
            pos = torch.arange(0, idx.size(1), dtype=torch.long, device=idx.device).unsqueeze(0)
            x = self.transformer.wte(idx) + self.transformer.wpe(pos)
            for block in self.transformer.h:
                x = block(x)
            logits = self.lm_head(self.transformer.ln_f(x))
            if targets is None:
                return logits[:, [-1], :], None
            return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)

        @torch.no_grad()
        def generate(self, idx, count):
            for _ in range(count):
                logits, _ = self(idx if idx.size(1) <= self.size else idx[:, -self.size :])
                logits = logits[:, -1, :] / 0.8
                v, _ = torch.topk(logits, 3)
                logits[logits < v[:, [-1]]] = -float("Inf")
                _, following = torch.topk(F.softmax(logits, dim=-1), k=1, dim=-1)
                idx = torch.cat((idx, following), dim=1)
            return idx

    def step(m, idx, targets):
        decay = [p for p in m.parameters() if p.dim() >= 2]
        rest = [p for p in m.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.95))
        for _ in range(2):
            _, loss = m(idx, targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(m.parameters(), 0.5)
            optimizer.step()
        optimizer.zero_grad()
        return *m(idx, targets), m.generate(idx[:, :2], 9)

    return GPT(), step


def translator(torch):
    """Packed bidirectional GRU, Luong's attention, a loss over a mask, teacher forcing every other step."""
    nn, F = torch.nn, torch.nn.functional

    class Model(nn.Module):
        def __init__(self, n=6, vocab=12):
            super().__init__()
            self.n, self.embedding = n, nn.Embedding(vocab, n)
            self.encoder = nn.GRU(n, n, 2, bidirectional=True)
            self.attn, self.v = nn.Linear(2 * n, n), nn.Parameter(torch.randn(n))
            self.decoder = nn.GRU(n, n, 2)
            self.concat, self.out = nn.Linear(2 * n, n), nn.Linear(n, vocab)

        def forward(self, x, lengths, y, mask):
            packed = nn.utils.rnn.pack_padded_sequence(self.embedding(x), lengths.cpu(), enforce_sorted=False)
            outputs, hidden = self.encoder(packed)
            outputs, _ = nn.utils.rnn.pad_packed_sequence(outputs)
            outputs = outputs[:, :, : self.n] + outputs[:, :, self.n :]
            hidden, loss = hidden[:2], 0
            word = torch.LongTensor([[1 for _ in range(x.size(1))]])
            for t in range(y.size(0)):
                step, hidden = self.decoder(self.embedding(word), hidden)
                energy = self.attn(torch.cat((step.expand(outputs.size(0), -1, -1), outputs), 2)).tanh()
                weights = F.softmax(torch.sum(self.v * energy, dim=2).t(), dim=1).unsqueeze(1)
                context = weights.bmm(outputs.transpose(0, 1)).squeeze(1)
                p = F.softmax(self.out(torch.tanh(self.concat(torch.cat((step.squeeze(0), context), 1)))), dim=1)
                loss += -torch.log(torch.gather(p, 1, y[t].view(-1, 1)).squeeze(1)).masked_select(mask[t]).mean()
                _, top = p.topk(1)
                word = y[t].view(1, -1) if t % 2 else torch.LongTensor([[top[i][0] for i in range(x.size(1))]])
            return loss, hidden

    return Model(), lambda m, *inputs: m(*inputs)


def gan(torch):
    """DCGAN's generator with WGAN's penalty on the critic's gradient, which is itself differentiated."""
    nn = torch.nn

    def weights_init(m):
        if m.__class__.__name__.find("Conv") != -1:
            nn.init.normal_(m.weight.data, 0.0, 0.2)

    g = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 4, 1, 0, bias=False), nn.BatchNorm2d(6), nn.ReLU(True),
        nn.ConvTranspose2d(6, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip
    d = nn.Sequential(
        nn.utils.spectral_norm(nn.Conv2d(1, 4, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(4, 6, 3, 1, 1),
        nn.InstanceNorm2d(6, affine=True), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(6, 1, 4),
    )  # fmt: skip

    def step(m, real, noise, eps):
        fake = m["g"](noise)
        mixed = (real * eps.repeat(1, 1, 8, 8) + fake.detach() * (1 - eps)).requires_grad_(True)
        score = m["d"](mixed)
        (slope,) = torch.autograd.grad(score, mixed, torch.ones_like(score), create_graph=True, retain_graph=True)
        penalty = ((slope.view(slope.shape[0], -1).norm(2, dim=1) - 1) ** 2).mean()
        return m["d"](fake).mean() - m["d"](real).mean() + 10 * penalty, fake

    return nn.ModuleDict({"g": g, "d": d}).apply(weights_init), step


def windows(torch):
    """Swin's shifted windows with relative positions, and DETR's head over them."""
    nn = torch.nn

    def cut(x, s):
        B, H, W, C = x.shape
        return x.view(B, H // s, s, W // s, s, C).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, s * s, C)

    class Block(nn.Module):
        def __init__(self, dim=4, s=2, heads=2):
            super().__init__()
            self.s, self.heads = s, heads
            self.table = nn.Parameter(torch.zeros((2 * s - 1) ** 2, heads))
            nn.init.trunc_normal_(self.table, std=0.02)
            places = torch.stack(torch.meshgrid([torch.arange(s), torch.arange(s)], indexing="ij")).flatten(1)
            relative = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0).contiguous()
            relative[:, :, 0] += s - 1
            relative[:, :, 1] += s - 1
            relative[:, :, 0] *= 2 * s - 1
            self.register_buffer("index", relative.sum(-1))
            self.qkv, self.proj, self.norm = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim), nn.LayerNorm(dim)
            regions, count = torch.zeros((1, 4, 4, 1)), 0
            for h in (slice(0, -s), slice(-s, -1), slice(-1, None)):
                for w in (slice(0, -s), slice(-s, -1), slice(-1, None)):
                    regions[:, h, w, :] = count
                    count += 1
            apart = cut(regions, s).view(-1, s * s)
            apart = apart.unsqueeze(1) - apart.unsqueeze(2)
            self.register_buffer("mask", apart.masked_fill(apart != 0, -100.0).masked_fill(apart == 0, 0.0))

        def forward(self, x):
            B, L, C = x.shape
            y = torch.roll(self.norm(x).view(B, 4, 4, C), shifts=(-1, -1), dims=(1, 2))
            y = cut(y, self.s)
            n = y.shape[1]
            q, k, v = self.qkv(y).reshape(-1, n, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
            attn = (q * (C // self.heads) ** -0.5) @ k.transpose(-2, -1)
            attn = attn + self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1).contiguous().unsqueeze(0)
            attn = attn.view(B, -1, self.heads, n, n) + self.mask.unsqueeze(1).unsqueeze(0)
            y = self.proj((attn.view(-1, self.heads, n, n).softmax(-1) @ v).transpose(1, 2).reshape(-1, n, C))
            y = y.view(B, 2, 2, self.s, self.s, -1).permute(0, 1, 3, 2, 4, 5).contiguous().view(B, 4, 4, -1)
            return x + torch.roll(y, shifts=(1, 1), dims=(1, 2)).view(B, L, C)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.queries = Block(), nn.Parameter(torch.rand(5, 4))
            self.transformer = nn.Transformer(4, 2, 1, 1, 8, dropout=0.0, norm_first=True, activation="gelu")
            self.boxes = nn.Linear(4, 4)

        def forward(self, x):
            h = self.block(x).transpose(0, 1)
            h = self.transformer(h, self.queries.unsqueeze(1).repeat(1, h.size(1), 1)).transpose(0, 1)
            return self.boxes(h).sigmoid()

    return Net(), lambda m, x: m(x)


def mixture(torch):
    """LLaMA's norm and rotary positions, LoRA on a linear layer, and a mixture of experts that writes rows by index."""
    nn, F = torch.nn, torch.nn.functional

    class RMSNorm(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(dim))

        def forward(self, x):
            return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * self.weight

    class LoRA(nn.Linear):
        def __init__(self, i, o, rank=2, **kw):
            super().__init__(i, o, **kw)
            self.lora_A, self.lora_B = (nn.Parameter(self.weight.new_zeros(s)) for s in ((rank, i), (o, rank)))
            self.weight.requires_grad = False
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
            nn.init.normal_(self.lora_B)

        def forward(self, x):
            return F.linear(x, self.weight, self.bias) + (x @ self.lora_A.T @ self.lora_B.T) * 2.0

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.wq, self.wkv = RMSNorm(8), LoRA(8, 8, bias=False), nn.Linear(8, 8, bias=False)
            self.gate = nn.Linear(8, 4, bias=False)
            self.experts = nn.ModuleList(
                [nn.Sequential(nn.Linear(8, 12), nn.SiLU(), nn.Linear(12, 8)) for _ in range(4)]
            )

        def forward(self, x):
            b, s, _ = x.shape
            angles = torch.outer(
                torch.arange(s).to(x.dtype), 1.0 / (10000 ** (torch.arange(0, 4, 2)[:2].to(x.dtype) / 4))
            )
            cos, sin = (torch.cat([f, f], -1)[None, :, None] for f in (angles.cos(), angles.sin()))

            def turn(t):
                return t * cos + torch.cat((-t[..., 2:], t[..., :2]), dim=-1) * sin

            h = self.norm(x)
            k, v = self.wkv(h).view(b, s, 1, 8).chunk(2, dim=-1)
            q, k = turn(self.wq(h).view(b, s, 2, 4)), turn(k)
            k, v = (t.expand(b, s, 2, 4).transpose(1, 2) for t in (k, v))
            y = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=True)
            x = x + y.transpose(1, 2).reshape(b, s, 8)
            flat = x.view(-1, 8)
            w, which = torch.topk(self.gate(flat).softmax(dim=-1), 2, dim=-1)
            out = torch.zeros_like(flat)
            for i, expert in enumerate(self.experts):
                rows, nth = torch.where(which == i)
                out[rows] += w[rows, nth, None] * expert(flat[rows])
                out.index_add_(0, rows, expert(flat[rows]) * w[rows, nth, None])
            return out.view(b, s, 8)

    return Net(), lambda m, x: m(x)


def contrast(torch):
    """MoCo: a momentum copy, a queue in buffers; VQ-VAE's straight-through codes; a normalising flow's permutation."""
    nn, F = torch.nn, torch.nn.functional

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.q = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
            self.k = copy.deepcopy(self.q)
            for p in self.k.parameters():
                p.requires_grad = False
            self.register_buffer("queue", F.normalize(torch.randn(4, 12), dim=0))
            self.register_buffer("at", torch.zeros(1, dtype=torch.long))
            self.register_buffer("perm", torch.arange(3, -1, -1))
            self.codes, self.scale = nn.Embedding(7, 4), nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2))
            self.codes.weight.data.uniform_(-1.0 / 7, 1.0 / 7)

        def forward(self, a, b):
            q = F.normalize(self.q(a), dim=1)
            with torch.no_grad():
                for p, m in zip(self.q.parameters(), self.k.parameters()):  # noqa: B905
                    m.data = m.data * 0.9 + p.data * 0.1
                k = F.normalize(self.k(b), dim=1)
            near = torch.einsum("nc,nc->n", [q, k]).unsqueeze(-1)
            far = torch.einsum("nc,ck->nk", [q, self.queue.clone().detach()])
            loss = F.cross_entropy(torch.cat([near, far], dim=1) / 0.2, torch.zeros(len(q), dtype=torch.long))
            start = int(self.at)
            self.queue[:, start : start + len(k)] = k.T
            self.at[0] = (start + len(k)) % 12
            distance = (q**2).sum(1, keepdim=True) + (self.codes.weight**2).sum(1) - 2 * q @ self.codes.weight.t()
            place = torch.argmin(distance, dim=1).unsqueeze(1)
            chosen = torch.zeros(len(q), 7, dtype=q.dtype).scatter_(1, place, 1) @ self.codes.weight
            codes = F.mse_loss(chosen.detach(), q) + 0.25 * F.mse_loss(chosen, q.detach())
            z = q + (chosen - q).detach()
            left, right = z.chunk(2, -1)
            s = self.scale(left)
            z = torch.cat([left, right * torch.exp(s)], -1)[:, self.perm]
            return loss, codes, (0.5 * (z**2 + math.log(2 * math.pi)).sum(-1) - s.sum(-1)).mean()

    def step(m, a, b):
        first = m(a, b)
        return *first, *m(b, a)

    return Net(), step


def tagger(torch):
    """A bidirectional LSTM with a conditional random field: indexing by tensors, item(), -10000 in parameters."""
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self, tags=4):
            super().__init__()
            self.tags, self.embeds = tags, nn.Embedding(9, 5)
            self.lstm, self.hidden2tag = nn.LSTM(5, 3, num_layers=1, bidirectional=True), nn.Linear(6, tags)
            self.transitions = nn.Parameter(torch.randn(tags, tags))
            self.transitions.data[2, :] = -10000
            self.transitions.data[:, 3] = -10000

        def log_sum_exp(self, vec):
            _, i = torch.max(vec, 1)
            top = vec[0, i.item()]
            return top + torch.log(torch.sum(torch.exp(vec - top.view(1, -1).expand(1, vec.size()[1]))))

        def forward(self, sentence, tags):
            embeds = self.embeds(sentence).view(len(sentence), 1, -1)
            hidden = (embeds.new_zeros(2, 1, 3), embeds.new_zeros(2, 1, 3))
            out, hidden = self.lstm(embeds, hidden)
            feats = self.hidden2tag(out.view(len(sentence), 6))
            alphas = torch.full((1, self.tags), -10000.0, dtype=feats.dtype)
            alphas[0][2] = 0.0
            for feat in feats:
                following = []
                for tag in range(self.tags):
                    emit = feat[tag].view(1, -1).expand(1, self.tags)
                    following.append(self.log_sum_exp(alphas + self.transitions[tag].view(1, -1) + emit).view(1))
                alphas = torch.cat(following).view(1, -1)
            score = torch.zeros(1, dtype=feats.dtype)
            tags = torch.cat([torch.tensor([2], dtype=torch.long), tags])
            for i, feat in enumerate(feats):
                score = score + self.transitions[tags[i + 1], tags[i]] + feat[tags[i + 1]]
            return self.log_sum_exp(alphas + self.transitions[3]) - score - self.transitions[3, tags[-1]]

    return Net(), lambda m, *inputs: m(*inputs)


tokens = rng.integers(2, 12, (5, 3))
MODELS = [
    (residual, [r(2, 3, 20, 20)]),
    (language_model, [rng.integers(0, 11, (2, 8)), rng.integers(-1, 11, (2, 8))]),
    (translator, [tokens, np.array([4, 5, 2]), rng.integers(2, 12, (3, 3)), np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0]]) > 0]),
    (gan, [r(3, 1, 8, 8), r(3, 4, 1, 1), rng.random((3, 1, 1, 1))]),
    (windows, [r(2, 16, 4)]),
    (mixture, [r(2, 5, 8)]),
    (contrast, [r(4, 5), r(4, 5)]),
    (tagger, [rng.integers(0, 9, 4), rng.integers(0, 2, 4)]),
]  # fmt: skip


def flat(y):
    return [t for v in y for t in flat(v)] if isinstance(y, (tuple, list)) else [y]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize(("build", "inputs"), MODELS, ids=[build.__name__ for build, _ in MODELS])
def test_published_models(build, inputs):
    torch = pytest.importorskip("torch")
    (ours, our_step), (theirs, their_step) = build(gf), build(torch)
    ours.double(), theirs.double()
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    ours.load_state_dict({k: gf.tensor(v.numpy()) for k, v in state.items()})
    for training in (True, False):
        ours.train(training), theirs.train(training)
        y = flat(our_step(ours, *[gf.tensor(a) for a in inputs]))
        t = flat(their_step(theirs, *[torch.tensor(a) for a in inputs]))
        assert [v.requires_grad for v in y] == [v.requires_grad for v in t]
        for a, b in zip(y, t, strict=True):
            assert_close(a.detach().numpy(), b.detach().numpy(), scale=100, what="output")
        sum((v * v).sum() for v in y if v.requires_grad).backward()
        sum((v * v).sum() for v in t if v.requires_grad).backward()
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), name
            if q.grad is not None:
                assert_close(p.grad.numpy(), q.grad.numpy(), scale=1000, what=f"gradient of {name}")
            p.grad = q.grad = None
        for (name, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            assert_close(p.numpy(), q.numpy(), scale=100, what=name)

"""Image captioning: a convolutional network looks at a strip of handwritten digits, an LSTM says what it saw, word by word.

The feature of the image is the LSTM's first hidden state; from then on it gets only the embedding of the word before and gives
the scores of the next, until it says <end> (Vinyals et al. 2015; Karpathy and Fei-Fei 2015). The loss is a softmax at every
time, where words behind the end do not count. A caption is read off greedily, always the likeliest word, or drawn from the
probabilities. The strips are put together from scikit-learn's real digits, those for the test from digits never trained on.
"""

from __future__ import annotations

import numpy as np

import gradflow as gf
from gradflow.examples.page import Page
from gradflow.examples.runner import main

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
WORDS = ["<null>", "<start>", "<end>", *NAMES]
NULL, START, END = range(3)


def strips(part: gf.data.TensorDataset, n: int, most: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """n strips (n, 1, 8, 8 most) of one to `most` digits from the left, and their captions as words (n, most + 2)."""
    images, labels = (t.numpy() for t in part.tensors)
    at, shown = rng.integers(0, len(labels), (n, most)), np.arange(most) < rng.integers(1, most + 1, (n, 1))
    pixels = np.where(shown[:, :, None, None], images[at, 0], 0)
    words = np.full((n, most + 2), NULL)
    words[:, 0] = START
    words[:, 1:-1] = np.where(shown, labels[at] + len(WORDS) - 10, NULL)
    words[np.arange(n), shown.sum(1) + 1] = END
    return pixels.transpose(0, 2, 1, 3).reshape(n, 1, 8, 8 * most), words


def spoken(words: np.ndarray) -> str:
    """The words of a caption up to its end."""
    return " ".join(WORDS[w] for w in words if w not in (NULL, START, END))


class Captioner(gf.nn.Module):
    """Images (n, 1, 8, 8 most) and the words so far (n, l) to the scores of each next word, (n, l, words)."""

    def __init__(self, most: int, width: int) -> None:
        super().__init__()
        # Normalised at the end: an LSTM that hears the image only faintly goes on to guess for a long time.
        self.look = gf.nn.Sequential(
            gf.nn.Conv2d(1, 16, 3, padding=1), gf.nn.ReLU(), gf.nn.MaxPool2d(2),
            gf.nn.Conv2d(16, 32, 3, padding=1), gf.nn.ReLU(), gf.nn.MaxPool2d(2),
            gf.nn.Flatten(), gf.nn.Dropout(0.2), gf.nn.Linear(32 * 2 * 2 * most, width), gf.nn.BatchNorm1d(width),
        )  # fmt: skip
        self.embedding = gf.nn.Embedding(len(WORDS), 32)
        self.lstm = gf.nn.LSTM(32, width, batch_first=True)
        self.head = gf.nn.Linear(width, len(WORDS))

    def start(self, images: gf.Tensor) -> tuple[gf.Tensor, gf.Tensor]:
        """The LSTM's first state: the image in h, nothing in c."""
        h = self.look(images)[None]
        return h, gf.zeros_like(h)

    def say(self, words: gf.Tensor, state: tuple[gf.Tensor, gf.Tensor]) -> tuple[gf.Tensor, tuple[gf.Tensor, gf.Tensor]]:
        """The scores after each word, and the state to go on from."""
        h, state = self.lstm(self.embedding(words), state)
        return self.head(h), state

    def forward(self, images: gf.Tensor, words: gf.Tensor) -> gf.Tensor:
        """All the scores at once, as in training, where the words are known."""
        return self.say(words, self.start(images))[0]


def captions(model: Captioner, images: gf.Tensor, most: int, draw: bool) -> np.ndarray:
    """What the model says of every image, (n, most + 2): the likeliest words, or with `draw` drawn ones; null after <end>."""
    words = gf.full((len(images), 1), START, device=images.device)
    with gf.nn.evaluating(model):
        state = model.start(images)
        for _ in range(most + 1):
            scores, state = model.say(words[:, -1:], state)
            scores = scores[:, 0]
            word = gf.multinomial(scores.softmax(-1), 1) if draw else scores.argmax(-1, keepdim=True)
            over = (words[:, -1:] == END) | (words[:, -1:] == NULL)
            words = gf.cat([words, word.masked_fill(over, NULL)], 1)
    return words.cpu().numpy()


def run(page: Page) -> None:
    """Train; caption strips of new digits, greedily and drawn."""
    training, held_out = gf.data.digits()
    most, steps, rng = page.pick(4, 2), page.pick(2000, 160), np.random.default_rng(page.seed)
    model = Captioner(most, page.pick(192, 96)).to(page.device)
    optimizer = gf.optim.Adam(model.parameters())
    schedule = gf.optim.lr_scheduler.OneCycleLR(optimizer, page.pick(0.003, 0.01), steps, pct_start=0.2)
    for _ in page.steps(steps, "captions"):
        images, words = (gf.tensor(a, device=page.device) for a in strips(training, 64, most, rng))
        scores, wanted = model(images, words[:, :-1]), words[:, 1:]
        loss = gf.nn.functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=NULL)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    pixels, wanted = strips(held_out, 1000, most, rng)
    said = {}
    for name, draw in (("greedy", False), ("drawn", True)):
        said[name] = captions(model, gf.tensor(pixels, device=page.device), most, draw)
        right = (said[name] == wanted).all(1)
        goal = page.pick(0.93, 0.85) if name == "greedy" else None
        page.result(f"{name} captions that are right word for word", float(right.mean()), at_least=goal, unit="%")
    lengths = (said["greedy"] != NULL).sum(1) == (wanted != NULL).sum(1)
    page.result("greedy captions as long as their strip", float(lengths.mean()), at_least=0.95, unit="%")
    file, caption = "captions.png", "New strips with their greedy caption and, below it, a drawn one; wrong ones are red."
    page.picture(_strips(page, pixels, wanted, said), file, caption)


def _strips(page: Page, pixels: np.ndarray, wanted: np.ndarray, said: dict[str, np.ndarray]) -> object:
    figure = page.figure(12, 6.5)
    wrong = (said["greedy"] != wanted).any(1)
    shown = [*np.flatnonzero(wrong)[:6], *np.flatnonzero(~wrong)[:18]]
    figure.suptitle("Strips of digits never trained on: the first six are ones that it captions wrongly")
    for axes, i in zip(figure.subplots(6, 4).flat, shown, strict=False):
        axes.imshow(pixels[i, 0], cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        for place, name in ((1.28, "greedy"), (1.05, "drawn")):
            color = "#2a7f3f" if (said[name][i] == wanted[i]).all() else "#c0182b"
            axes.text(0, place, f"{name}: {spoken(said[name][i])}", color=color, fontsize=8.5, transform=axes.transAxes)
    return figure


if __name__ == "__main__":
    raise SystemExit(main("captions"))

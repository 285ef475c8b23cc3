"""The gallery: small programs that each show one idea on real data; `gradflow run NAME` or `python -m gradflow.examples.NAME`.

A module here is one program. It has run(page), which trains, draws and says its results by the Page it gets, and may have
arguments(parser) for options of its own.
"""

from __future__ import annotations

# Chapter -> {name of the module: what it is}.
CHAPTERS: dict[str, dict[str, str]] = {
    "First steps": {
        "graph": "f = (x + y) z with every gradient in between",
        "neuron": "a sigmoid neuron, one gradient at a time",
        "tiny_tanh": "one step of a 2-2-1 net of tanh, by the tape and by hand",
        "homework": "a 2-2-1 net of sigmoids with every value and every gradient",
        "multiply": "an operation of one's own, with its backward",
        "least_squares": "least squares and ridge regression, by hand and by the tape",
        "accumulation": "forward against reverse accumulation on tall and wide Jacobians",
        "momentum": "why momentum works: two ways down a narrow valley",
        "newton": "the same minimum found blind, by the gradient, and by curvature",
    },
    "Networks that are one idea": {
        "gates": "perceptrons as gates, and 'same value', which needs a hidden layer",
        "fits": "x^2, sin x and |x| by three hidden units, which are drawn",
        "two_layer": "the two-layer net of the lecture beside its NumPy program",
        "spiral": "spiral arms parted by 3, 6 and 20 neurons, and what L2 does",
        "softmax_hinge": "softmax against multiclass hinge loss, with L2, on digits",
        "activations": "six activations and their gradients, drawn and checked",
        "vanishing": "gradients that vanish or explode through depth and time, and the cures",
    },
    "Convolution": {
        "full_convolution": "a full convolution, 3 x 3 with 2 x 2, by hand and by the net's operations",
        "filters": "blur, sharpen, Laplacian and Sobel on a photograph; Sobel learned back",
        "lenet": "a convolutional network that reads handwritten digits",
        "alexnet": "AlexNet's table, and its plan in small, trained on digits",
        "vgg16": "VGG16's table from the live model: 138,357,544 parameters",
        "resnet": "residual blocks against the same layers without a way round them",
        "regularised": "augmentation and dropout on fifty digits",
        "optimizers": "four optimizers, each with a constant, a stepped and a cosine rate",
    },
    "Sequences": {
        "char_rnn": "an RNN and an LSTM that learn to write, character by character",
        "gpt": "a small GPT that writes, beside an LSTM",
        "seq2seq": "attention and a Transformer: words turned round, and sums",
        "captions": "strips of digits, captioned word by word by an LSTM",
        "turing": "a Neural Turing Machine that learns to copy",
    },
    "Looking inside": {
        "first_filters": "the filters of the first layer, and what they see",
        "best_images": "the images that activate a unit most, layer by layer",
        "saliency": "which pixels a score depends on: saliency and guided backprop",
        "grad_cam": "where the net sees a class: class activation maps and Grad-CAM",
        "class_images": "what the net finds most like a class, and most like a unit",
        "fooling": "every digit changed a little until it is read as any other",
        "adversarial": "FGSM, PGD and the minimum-norm attack, and training against them",
        "deep_dream": "a photograph that turns into what a net of textures knows",
        "style": "a photograph in the style of brick, grass and gravel",
        "matrix_norms": "spectral, Frobenius, nuclear and max norms with their gradients",
    },
    "Generating and matching": {
        "gan": "digits from noise: adversarial networks, vanilla and least-squares",
        "dcgan": "adversarial networks of convolutions, and what lies between two digits",
        "diffusion": "digits out of noise, step by step: a denoising diffusion model",
        "clip": "digits matched with sentences, which then classify them without training",
        "guided": "digits drawn for a sentence, by the model that matches the two",
    },
    "Layer zoo": {
        "layer_zoo": "every layer and criterion of the lecture's list, value and gradient checked",
    },
}
EXAMPLES = {name: text for chapter in CHAPTERS.values() for name, text in chapter.items()}

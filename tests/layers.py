"""Layers with arguments and inputs to try them on: what the tests of nn compare with PyTorch's and run on the card."""

from __future__ import annotations

import numpy as np

from gradflow import nn


class L:
    """A layer to compare: its name, arguments, and the shapes of its inputs (or the inputs themselves)."""

    def __init__(self, name, *args, inputs, **kwargs):
        self.name, self.args, self.inputs, self.kwargs = name, args, inputs, kwargs

    def __repr__(self):
        shown = [*map(str, self.args), *(f"{k}={v}" for k, v in self.kwargs.items())]
        return f"{self.name}({','.join(shown)})".replace(" ", "")

    def made(self, library=nn):
        """The layer, of gradflow's nn or of a library with the same names."""
        return getattr(library, self.name)(*self.args, **self.kwargs)

    def arrays(self, make):
        """The inputs; those given by shape, and the first, require a gradient."""
        rng = np.random.default_rng(0)
        return [
            make(rng.standard_normal(v), True) if isinstance(v, tuple) else make(v, i == 0 and v.dtype.kind == "f")
            for i, v in enumerate(self.inputs)
        ]


CONVS = [
    L("Conv1d", 4, 6, 3, inputs=[(2, 4, 9)]),
    L("Conv1d", 4, 6, 3, padding="same", groups=2, bias=False, inputs=[(2, 4, 9)]),
    L("Conv1d", 2, 2, 4, padding="same", padding_mode="circular", inputs=[(2, 2, 9)]),
    L("Conv2d", 3, 4, 3, stride=2, padding=1, inputs=[(2, 3, 7, 6)]),
    L("Conv2d", 3, 4, (3, 2), dilation=(1, 2), padding=(2, 1), inputs=[(3, 7, 6)]),
    L("Conv2d", 3, 3, 3, groups=3, padding="valid", inputs=[(2, 3, 7, 6)]),
    L("Conv2d", 2, 4, (3, 2), padding=(1, 2), padding_mode="reflect", inputs=[(2, 2, 5, 6)]),
    L("Conv2d", 2, 4, 3, padding=1, padding_mode="replicate", stride=2, inputs=[(2, 2, 5, 6)]),
    L("Conv3d", 2, 3, 2, padding=1, inputs=[(1, 2, 3, 4, 3)]),
    L("ConvTranspose1d", 4, 6, 3, stride=2, padding=1, output_padding=1, inputs=[(2, 4, 5)]),
    L("ConvTranspose2d", 4, 6, 3, stride=2, groups=2, dilation=2, inputs=[(2, 4, 5, 3)]),
    L("ConvTranspose3d", 2, 3, 2, stride=2, inputs=[(1, 2, 2, 3, 2)]),
]
POOLS = [
    L("MaxPool1d", 3, 2, 1, inputs=[(2, 3, 9)]),
    L("MaxPool2d", 2, inputs=[(2, 3, 7, 6)]),
    L("MaxPool2d", 3, stride=2, padding=1, ceil_mode=True, return_indices=True, inputs=[(2, 3, 7, 6)]),
    L("MaxPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
    L("MaxUnpool2d", 2, inputs=[(1, 1, 2, 2), np.array([[[[0, 3], [8, 14]]]])]),
    L("Fold", (4, 5), (2, 3), padding=1, stride=2, inputs=[(2, 12, 9)]),
    L("Unfold", (2, 3), dilation=2, padding=1, stride=2, inputs=[(2, 3, 7, 6)]),
    L("AvgPool1d", 3, 2, 1, inputs=[(2, 3, 9)]),
    L("AvgPool2d", (3, 2), padding=1, count_include_pad=False, inputs=[(2, 3, 7, 6)]),
    L("AvgPool2d", 2, divisor_override=3, inputs=[(2, 3, 7, 6)]),
    L("AvgPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
    L("LPPool1d", 2, 3, inputs=[(2, 3, 9)]),
    L("LPPool2d", 2, 3, stride=2, inputs=[(2, 3, 7, 6)]),
    L("AdaptiveAvgPool1d", 4, inputs=[(2, 3, 9)]),
    L("AdaptiveAvgPool2d", (3, None), inputs=[(2, 3, 7, 6)]),
    L("AdaptiveAvgPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
    L("AdaptiveMaxPool1d", 4, inputs=[(2, 3, 9)]),
    L("AdaptiveMaxPool2d", 3, return_indices=True, inputs=[(2, 3, 7, 6)]),
    L("AdaptiveMaxPool3d", 2, inputs=[(2, 3, 4, 4, 5)]),
]
NORMS = [
    L("BatchNorm1d", 4, inputs=[(5, 4)]),
    L("BatchNorm1d", 4, momentum=None, eps=1e-3, inputs=[(5, 4, 3)]),
    L("BatchNorm2d", 3, inputs=[(4, 3, 5, 2)]),
    L("BatchNorm2d", 3, affine=False, track_running_stats=False, inputs=[(4, 3, 5, 2)]),
    L("BatchNorm2d", 3, bias=False, inputs=[(4, 3, 5, 2)]),
    L("BatchNorm3d", 2, inputs=[(2, 2, 3, 2, 2)]),
    L("InstanceNorm1d", 3, inputs=[(2, 3, 6)]),
    L("InstanceNorm2d", 3, affine=True, track_running_stats=True, inputs=[(2, 3, 4, 5)]),
    L("InstanceNorm2d", 3, affine=True, inputs=[(3, 4, 5)]),
    L("LayerNorm", 6, inputs=[(2, 3, 6)]),
    L("LayerNorm", (3, 6), eps=1e-3, bias=False, inputs=[(2, 3, 6)]),
    L("LayerNorm", [6], elementwise_affine=False, inputs=[(2, 3, 6)]),
    L("GroupNorm", 2, 6, inputs=[(2, 6, 3, 3)]),
    L("GroupNorm", 3, 6, affine=False, inputs=[(2, 6, 3)]),
    L("RMSNorm", 6, inputs=[(2, 3, 6)]),
    L("RMSNorm", (3, 6), eps=1e-3, elementwise_affine=False, inputs=[(2, 3, 6)]),
    L("LocalResponseNorm", 3, 1e-2, 0.6, 2.0, inputs=[(2, 5, 4, 3)]),
]
X = [(2, 6, 4)]
PLAIN = """
    ReLU ReLU6 SELU SiLU Mish Hardswish Hardsigmoid Sigmoid Tanh LogSigmoid Softsign Tanhshrink ELU CELU LeakyReLU GELU
    Softplus Hardtanh Hardshrink Softshrink PReLU GLU Identity
"""
ACTIVATIONS = [
    *(L(name, inputs=X) for name in PLAIN.split()),
    L("ReLU", True, inputs=X),
    L("ELU", 0.3, inplace=True, inputs=X),
    L("CELU", 0.4, inputs=X),
    L("LeakyReLU", 0.2, True, inputs=X),
    L("GELU", "tanh", inputs=X),
    L("Softplus", 2.0, 1.0, inputs=X),
    L("Hardtanh", -0.3, 0.6, True, inputs=X),
    L("Threshold", 0.2, -1.0, inputs=X),
    L("Hardshrink", 0.2, inputs=X),
    L("Softshrink", 0.2, inputs=X),
    L("PReLU", 6, 0.1, inputs=X),
    L("GLU", 1, inputs=X),
    L("Softmax", 1, inputs=X),
    L("LogSoftmax", -1, inputs=X),
    L("Softmin", 0, inputs=X),
    L("Softmax2d", inputs=[(2, 3, 4, 5)]),
]
DENSE = [
    L("Linear", 6, 5, inputs=[(2, 3, 6)]),
    L("Linear", 6, 5, bias=False, inputs=[(6,)]),
    L("Bilinear", 3, 4, 5, inputs=[(2, 3), (2, 4)]),
    L("Bilinear", 3, 4, 5, bias=False, inputs=[(2, 7, 3), (2, 7, 4)]),
    L("Flatten", inputs=[(2, 3, 4, 5)]),
    L("Flatten", 0, 2, inputs=[(2, 3, 4, 5)]),
    L("Unflatten", 1, (2, -1), inputs=[(2, 6, 4)]),
    L("CosineSimilarity", inputs=[(3, 4), (3, 4)]),
    L("PairwiseDistance", 1.5, keepdim=True, inputs=[(3, 4), (3, 4)]),
]
classes = np.array([1, 0, 4, 2])
signs = np.array([1.0, -1.0, -1.0, 1.0])
some = np.random.default_rng(3).random((4, 5))
LOSSES = [
    *(L(name, inputs=[(4, 5), (4, 5)]) for name in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss")),
    L("MSELoss", reduction="sum", inputs=[(4, 5), (4, 5)]),
    L("SmoothL1Loss", beta=0.3, reduction="none", inputs=[(4, 5), (4, 5)]),
    L("HuberLoss", delta=0.3, inputs=[(4, 5), (4, 5)]),
    L("CrossEntropyLoss", inputs=[(4, 5), classes]),
    L("CrossEntropyLoss", label_smoothing=0.1, ignore_index=0, inputs=[(4, 5), classes]),
    L("CrossEntropyLoss", reduction="none", inputs=[(4, 5), some]),
    L("NLLLoss", inputs=[(4, 5), classes]),
    L("BCELoss", inputs=[some, some[::-1].copy()]),
    L("BCEWithLogitsLoss", inputs=[(4, 5), some]),
    L("KLDivLoss", reduction="batchmean", inputs=[(4, 5), some]),
    L("KLDivLoss", log_target=True, reduction="sum", inputs=[(4, 5), (4, 5)]),
    L("PoissonNLLLoss", inputs=[(4, 5), some]),
    L("PoissonNLLLoss", log_input=False, full=True, inputs=[some, some * 4]),
    L("GaussianNLLLoss", full=True, inputs=[(4, 5), (4, 5), some + 0.1]),
    L("HingeEmbeddingLoss", 0.5, inputs=[(4,), signs]),
    L("SoftMarginLoss", inputs=[(4,), signs]),
    L("MultiLabelSoftMarginLoss", inputs=[(4, 5), some.round()]),
    L("MultiMarginLoss", 2, 0.5, inputs=[(4, 5), classes]),
    L("MultiLabelMarginLoss", inputs=[(2, 4), np.array([[3, 0, -1, 1], [2, -1, 0, 0]])]),
    L("MarginRankingLoss", 0.1, inputs=[(4,), (4,), signs]),
    L("CosineEmbeddingLoss", 0.1, inputs=[(4, 5), (4, 5), signs]),
    L("TripletMarginLoss", 0.7, swap=True, inputs=[(4, 5), (4, 5), (4, 5)]),
    L("TripletMarginWithDistanceLoss", margin=0.7, inputs=[(4, 5), (4, 5), (4, 5)]),
    L("LinearCrossEntropyLoss", 3, 5, bias=True, label_smoothing=0.1, inputs=[(4, 3), classes]),
    L("LinearCrossEntropyLoss", 3, 5, out_features=(2,), inputs=[(4, 3), np.array([[1, 0], [4, 2], [3, 3], [0, 1]])]),
    L("AdaptiveLogSoftmaxWithLoss", 8, 12, [3, 6], 2.0, True, inputs=[(4, 8), np.array([0, 4, 11, 2])]),
    L(
        "CTCLoss",
        1,
        zero_infinity=True,
        inputs=[
            np.log(some / some.sum(1, keepdims=True))[:, None].repeat(2, 1),
            np.array([[2, 3], [4, 0]]),
            np.array([4, 3]),
            np.array([2, 1]),
        ],
    ),
]
RECURRENT = [
    L("RNN", 3, 4, inputs=[(5, 2, 3)]),
    L("RNN", 3, 4, 2, "relu", bias=False, batch_first=True, bidirectional=True, inputs=[(2, 5, 3)]),
    L("GRU", 3, 4, 2, inputs=[(5, 2, 3), (2, 2, 4)]),
    L("GRU", 3, 4, bidirectional=True, inputs=[(5, 3)]),
    L("LSTM", 3, 4, 2, bidirectional=True, inputs=[(5, 2, 3)]),
    L("LSTM", 3, 4, proj_size=2, batch_first=True, inputs=[(2, 5, 3)]),
    L("RNNCell", 3, 4, nonlinearity="relu", inputs=[(2, 3), (2, 4)]),
    L("RNNCell", 3, 4, bias=False, inputs=[(3,)]),
    L("GRUCell", 3, 4, inputs=[(2, 3)]),
    L("LSTMCell", 3, 4, inputs=[(2, 3)]),
]
rows = np.array([[1, 0, 3], [1, 4, 1]])
EMBEDDINGS = [
    L("Embedding", 5, 3, inputs=[rows]),
    L("Embedding", 5, 3, padding_idx=-4, inputs=[rows]),
    L("Embedding", 5, 3, 0, max_norm=1.0, norm_type=1.5, scale_grad_by_freq=True, inputs=[rows]),
    L("EmbeddingBag", 5, 3, inputs=[rows]),
    L("EmbeddingBag", 5, 3, mode="sum", padding_idx=1, inputs=[rows.reshape(-1), np.array([0, 2, 5])]),
    L("EmbeddingBag", 5, 3, mode="max", include_last_offset=True, inputs=[rows.reshape(-1), np.array([0, 4, 6])]),
]
M = [(5, 2, 8)]
ATTENTION = [
    L("MultiheadAttention", 8, 2, inputs=[(5, 2, 8), (3, 2, 8), (3, 2, 8)]),
    L("MultiheadAttention", 8, 4, bias=False, batch_first=True, inputs=[(2, 5, 8), (2, 3, 8), (2, 3, 8)]),
    L("MultiheadAttention", 8, 2, kdim=3, vdim=6, inputs=[(5, 2, 8), (3, 2, 3), (3, 2, 6)]),
    L("MultiheadAttention", 8, 2, add_bias_kv=True, add_zero_attn=True, inputs=[(5, 8), (3, 8), (3, 8)]),
    L("TransformerEncoderLayer", 8, 2, 16, dropout=0.0, inputs=M),
    L("TransformerEncoderLayer", 8, 2, 16, 0.0, "gelu", norm_first=True, batch_first=True, bias=False, inputs=M),
    L("TransformerDecoderLayer", 8, 2, 16, dropout=0.0, inputs=[(5, 2, 8), (3, 2, 8)]),
    L("TransformerDecoderLayer", 8, 2, 16, dropout=0.0, norm_first=True, inputs=[(5, 8), (3, 8)]),
    L("Transformer", 8, 2, 2, 2, 16, dropout=0.0, inputs=[(5, 2, 8), (3, 2, 8)]),
]
IMAGE = [(2, 4, 5, 6)]
IMAGES = [
    *(L(f"{kind}Pad2d", (1, 2, 0, 3), inputs=IMAGE) for kind in ("Zero", "Reflection", "Replication", "Circular")),
    *(L(f"{kind}Pad1d", 2, inputs=[(2, 3, 5)]) for kind in ("Zero", "Reflection", "Replication", "Circular")),
    *(L(f"{kind}Pad3d", 1, inputs=[(1, 2, 3, 4, 2)]) for kind in ("Zero", "Reflection", "Replication", "Circular")),
    L("ConstantPad1d", (2, -1), 1.5, inputs=[(2, 3, 5)]),
    L("ConstantPad2d", 1, -2.0, inputs=IMAGE),
    L("ConstantPad3d", 1, 0.5, inputs=[(1, 2, 3, 4, 2)]),
    L("PixelShuffle", 2, inputs=IMAGE),
    L("PixelUnshuffle", 2, inputs=[(2, 3, 4, 6)]),
    L("ChannelShuffle", 2, inputs=IMAGE),
    L("UpsamplingNearest2d", scale_factor=2, inputs=IMAGE),
    L("UpsamplingBilinear2d", size=(7, 9), inputs=IMAGE),
    L("Upsample", scale_factor=3, inputs=[(2, 3, 5)]),
    L("Upsample", scale_factor=(1.6, 0.7), inputs=IMAGE),
    L("Upsample", size=(3, 11), inputs=IMAGE),
    L("Upsample", size=7, mode="nearest-exact", inputs=IMAGE),
    L("Upsample", scale_factor=2.3, mode="nearest-exact", recompute_scale_factor=True, inputs=[(1, 2, 3, 4, 2)]),
    L("Upsample", scale_factor=1.7, mode="linear", inputs=[(2, 3, 5)]),
    L("Upsample", scale_factor=1.7, mode="bilinear", inputs=IMAGE),
    L("Upsample", scale_factor=1.7, mode="bilinear", recompute_scale_factor=True, inputs=IMAGE),
    L("Upsample", size=(3, 11), mode="bilinear", align_corners=True, inputs=IMAGE),
    L("Upsample", size=(1, 11), mode="bicubic", align_corners=True, inputs=IMAGE),
    L("Upsample", scale_factor=2, mode="bicubic", inputs=IMAGE),
    L("Upsample", size=(2, 5, 3), mode="trilinear", inputs=[(1, 2, 3, 4, 2)]),
    L("Upsample", size=(3, 4), mode="area", inputs=IMAGE),
]
LAYERS = [*IMAGES, *EMBEDDINGS, *ATTENTION, *CONVS, *POOLS, *NORMS, *ACTIVATIONS, *DENSE, *LOSSES, *RECURRENT]

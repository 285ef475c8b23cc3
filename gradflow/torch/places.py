"""Where each module of torch's tree has its names: gradflow modules, in which they are looked for one after the other."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .library import Spaces

# The modules directly under torch. What is below them and not in PLACES may be imported and mentioned, no more.
_ROOTS = """
    _C _VF _awaits _classes _compile _custom_op _custom_ops _decomp _dispatch _dynamo _export _functorch _guards
    _higher_order_ops _inductor _jit_internal _lazy _library _linalg_utils _logging _lowrank _meta_registrations _numpy
    _ops _prims _prims_common _refs _six _storage_docs _subclasses _tensor _tensor_str _utils _utils_internal
    _vmap_internals accelerator amp ao autograd backends compiler contrib cpu cuda distributed distributions export fft
    func functional futures fx hub jit library linalg masked monitor mps mtia multiprocessing nested nn onnx ops optim
    overrides package profiler quantization quasirandom random return_types serialization signal sparse special storage
    testing torch_version types utils version xla xpu
"""
ROOTS = set(_ROOTS.split())

_OWN = "gradflow.torch."
_NN, _OPTIM, _DATA, _GRAD = "gradflow.nn", "gradflow.optim", "gradflow.data", "gradflow.autograd"
_SWITCHES = _OWN + "switches"


def _no() -> bool:
    """False: there is no such backend."""
    return False


def _nothing(*args: Any, **kwargs: Any) -> None:
    """A setting that changes nothing here."""


def _backend(**settings: Any) -> dict[str, Any]:
    """A backend's settings: they may be read and set, and change nothing."""
    return {"is_available": _no, "enabled": False, **settings}


class Private(dict):
    """Private names that programs ask torch for, and where gradflow has what they mean."""

    def get(self, name: str, default: Any = None) -> Any:
        """The thing of a private name, else the default."""
        if name not in self:
            return default
        file, _, there = self[name].partition(":")
        return getattr(import_module(f"gradflow.{file}"), there)


class Live(dict):
    """Settings that change something: their names, and the functions that set them when called with a value."""

    def of(self, name: str) -> Any:
        """The function of a setting."""
        file, _, there = self[name].partition(":")
        return getattr(import_module(f"gradflow.{file}"), there)


_PRIVATE = Private(
    _BatchNorm="nn.norm:_BatchNorm", _NormBase="nn.norm:_Norm", _InstanceNorm="nn.norm:_InstanceNorm",
    _ConvNd="nn.conv:_Conv", _ConvTransposeNd="nn.conv:_ConvTranspose", _Loss="nn.loss:_Loss",
    _WeightedLoss="nn.loss:_Loss", _DropoutNd="nn.dropout:_Dropout", _MaxPoolNd="nn.pool:_MaxPool",
    _AvgPoolNd="nn.pool:_AvgPool", _single="torch.sizes:single", _pair="torch.sizes:pair", _triple="torch.sizes:triple",
    _quadruple="torch.sizes:quadruple", _ntuple="torch.sizes:ntuple", _LRScheduler="optim.lr_scheduler:LRScheduler",
)  # fmt: skip


_JIT = Private({f"_{n}": f"torch.program:{n}" for n in ("script_if_tracing", "overload_method", "overload", "state")})

PLACES: dict[str, tuple[Any, ...]] = {
    "torch": (_OWN + "top", "gradflow", Private(_assert="torch.top:check")),
    "torch.accelerator": (_OWN + "card",),
    "torch.amp": ("gradflow.amp", _OWN + "amp"),
    "torch.autograd": (_GRAD,),
    "torch.autograd.forward_ad": (_GRAD + ".forward_ad", "gradflow.func"),
    "torch.autograd.functional": (_GRAD + ".functional", _GRAD),
    "torch.autograd.graph": (_GRAD + ".graph", _GRAD),
    "torch.autograd.profiler": ("gradflow.profiler",),
    "torch.backends": (),
    "torch.backends.cpu": ({"get_cpu_capability": lambda: "DEFAULT"},),
    "torch.backends.cuda": (_SWITCHES,),
    "torch.backends.cudnn": (
        Live(
            benchmark="cuda.tune:benchmark", benchmark_limit="cuda.tune:benchmark_limit",
            allow_tf32="cuda.precision:conv_tf32",
        ),
        _backend(deterministic=False, version=_nothing),
    ),
    "torch.backends.mkl": (_backend(),),
    "torch.backends.mkldnn": (_backend(allow_tf32=True),),
    "torch.backends.mps": (_backend(is_built=_no),),
    "torch.backends.openmp": (_backend(),),
    "torch.backends.opt_einsum": (_backend(strategy=None),),
    "torch.backends.quantized": (_backend(engine="none", supported_engines=[]),),
    "torch.compiler": (_OWN + "program",),
    "torch.cpu": (
        {
            "is_available": lambda: True,
            "synchronize": _nothing,
            "device_count": lambda: 1,
            "current_device": lambda: "cpu",
        },
    ),
    "torch.cpu.amp": (Private(autocast="torch.amp_of_card:autocast_of_cpu", GradScaler="torch.amp_of_card:GradScaler_of_cpu"),),
    "torch.cuda": (_OWN + "card", "gradflow.cuda"),
    "torch.cuda.amp": (_OWN + "amp_of_card",),
    "torch.cuda.graphs": ("gradflow.graphs",),
    "torch.cuda.memory": ("gradflow.cuda",),
    "torch.cuda.random": (_OWN + "card",),
    "torch.cuda.nvtx": ({"range_push": _nothing, "range_pop": _nothing, "mark": _nothing},),
    "torch.distributed": (_OWN + "alone",),
    "torch.distributions": ("gradflow.distributions",),
    "torch.fft": ("gradflow.fft",),
    "torch.func": ("gradflow.func",),
    "torch.functional": ("gradflow", "gradflow.linalg"),
    "torch.fx": ({"wrap": lambda function: function},),
    "torch.hub": (_OWN + "hub", Private(_get_torch_home="torch.hub:_get_torch_home")),
    "torch.library": (_OWN + "library",),
    "torch.ops": (Private(load_library="torch.library:load_library"), Spaces()),
    "torch.jit": (_OWN + "program", _JIT),
    "torch.linalg": ("gradflow.linalg",),
    "torch.masked": ("gradflow.masked",),
    "torch.mps": ({"is_available": _no, "empty_cache": _nothing, "manual_seed": _nothing},),
    "torch.multiprocessing": (
        "multiprocessing",
        {
            "set_sharing_strategy": _nothing,
            "get_sharing_strategy": lambda: "file_system",
            "get_all_sharing_strategies": set,
        },
    ),
    "torch.nn": (_NN,),
    "torch.nn.functional": (_NN + ".functional",),
    "torch.nn.init": (
        _NN + ".init",
        Private({n: f"nn.init:{n}" for n in ("_calculate_fan_in_and_fan_out", "_calculate_correct_fan")}),
    ),
    "torch.nn.modules": (_NN, _PRIVATE),
    "torch.nn.modules.utils": (_PRIVATE,),
    "torch.nn.parallel": (_NN, _NN + ".parallel"),
    "torch.nn.parameter": (_NN, _NN + ".parameter"),
    "torch.nn.utils": (_NN + ".utils", _OPTIM),
    "torch.nn.utils.parametrizations": (_NN + ".utils.parametrizations", _NN + ".utils"),
    "torch.nn.utils.parametrize": (_NN + ".utils.parametrize", _NN + ".utils"),
    "torch.nn.utils.prune": (_NN + ".utils.prune",),
    "torch.nn.utils.rnn": (_NN + ".utils.rnn",),
    "torch.nn.utils.stateless": (_NN + ".utils.stateless", "gradflow.func"),
    "torch.onnx": ({"is_in_onnx_export": _no, "register_custom_op_symbolic": _nothing},),
    "torch.onnx.symbolic_helper": ({"parse_args": lambda *kinds: lambda function: function},),
    "torch.optim": (_OPTIM,),
    "torch.optim.lr_scheduler": (_OPTIM + ".lr_scheduler", _PRIVATE),
    "torch.optim.swa_utils": (_OPTIM + ".swa_utils", _OPTIM),
    "torch.overrides": ({"has_torch_function": lambda args: False, "is_tensor_like": lambda x: hasattr(x, "array")},),
    "torch.profiler": ("gradflow.profiler", {"kineto_available": _no}),
    "torch.random": (_OWN + "random",),
    "torch.return_types": (_OWN + "returned",),
    "torch.serialization": ("gradflow.io", {"add_safe_globals": _nothing}),
    "torch.signal": ("gradflow.signal",),
    "torch.signal.windows": ("gradflow.signal.windows",),
    "torch.special": ("gradflow.special",),
    "torch.testing": (_OWN + "testing",),
    "torch.torch_version": (_OWN + "top",),
    "torch.types": (_OWN + "top", "gradflow"),
    "torch.utils._pytree": (
        _OWN + "pytree",
        Private(_register_pytree_node="torch.pytree:register_pytree_node", _get_node_type="torch.pytree:get_node_type"),
    ),
    "torch.utils.checkpoint": (_GRAD + ".checkpoint", _GRAD),
    "torch.utils.data": (_OWN + "loader", _DATA),
    "torch.utils.dlpack": (_OWN + "top", "gradflow"),
    "torch.utils.hooks": ("gradflow.tensor",),
    "torch.utils.model_zoo": (),
    "torch.utils.tensorboard": (_OWN + "writer",),
    "torch.version": (
        {"cuda": None, "hip": None, "xpu": None, "debug": False, "git_version": "", "__version__": "2.13.0+gradflow"},
    ),
    "torch.utils": (),
    "torch.xpu": ({"is_available": _no, "device_count": int},),
    "torch._C": (_OWN + "top", "gradflow", _OWN + "library", {"_log_api_usage_once": _nothing}),
    "torch._C._nn": (Private(_parse_to="torch.top:parse_to"),),
    "torch._dynamo": (_OWN + "program",),
    "torch._tensor": ("gradflow",),
    "torch._utils": (_OWN + "top",),
}


for _room, _files in {
    "torch.nn.modules": """activation adaptive batchnorm channelshuffle container conv distance dropout flatten fold instancenorm
        lazy linear loss module normalization padding pixelshuffle pooling rnn sparse transformer upsampling""",
    "torch.nn.parallel": "data_parallel distributed",
    "torch.nn.utils": "clip_grad convert_parameters memory_format spectral_norm weight_norm fusion init",
    "torch.optim": "adadelta adagrad adam adamax adamw asgd lbfgs nadam optimizer radam rmsprop rprop sgd sparse_adam",
    "torch.utils.data": "dataloader dataset distributed sampler _utils",
    "torch.autograd": "anomaly_mode function grad_mode gradcheck variable",
    "torch.amp": "autocast_mode grad_scaler",
    "torch.cuda.amp": "autocast_mode grad_scaler",
    "torch.utils.tensorboard": "writer",
}.items():
    for _file in _files.split():
        PLACES[f"{_room}.{_file}"] = PLACES[_room]
for _name in ("torch.optim.optimizer", "torch.nn.modules.module", "torch.nn.modules.lazy"):
    _file = _name.rpartition(".")[2]
    PLACES[_name] = (*PLACES[_name], f"{_OPTIM if 'optim.' in _name else _NN}.{_file}")
PLACES["torch.utils.data._utils.collate"] = (_DATA, _DATA + ".collate")


def sources(name: str) -> tuple[Any, ...] | None:
    """Where the module of this name has its names; () where gradflow has none of them; None for what is no known module."""
    root = name.partition(".")[2]
    return PLACES.get(name, () if root in ROOTS and not root.startswith("_") else None)

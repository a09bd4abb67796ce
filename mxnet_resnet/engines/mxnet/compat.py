"""MXNet 1.9.1 on today's Python, NumPy, CPUs and GPUs.

``prepare`` makes the process ready for ``import mxnet``; this room calls it before any of its modules is imported.
Nothing else in the project knows what MXNet 1.9.1 lacks, but for the GPUs it has no code for (engines/gpus.py).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np

from mxnet_resnet.base.environment import cores, count_bound_cores, count_busy_cores
from mxnet_resnet.base.errors import UserError

# Loaded before libmxnet.so, each after the ones it needs. cuDNN loads its parts by name when it is first called.
CUDA_LIBRARIES = (
    "libcudart.so.11.0",
    "libnvrtc.so.11.2",
    "libnvToolsExt.so.1",
    "libcublasLt.so.11",
    "libcublas.so.11",
    "libcufft.so.10",
    "libcurand.so.10",
    "libcusparse.so.11",
    "libcusolver.so.11",
    "libnccl.so.2",
    "libcudnn.so.8",
    "libcudnn_ops_infer.so.8",
    "libcudnn_ops_train.so.8",
    "libcudnn_cnn_infer.so.8",
    "libcudnn_cnn_train.so.8",
    "libcudnn_adv_infer.so.8",
    "libcudnn_adv_train.so.8",
)

NOT_INSTALLED = (
    "MXNet is not installed: pip install requests, then pip install --no-deps mxnet==1.9.1 "
    "(which would take NumPy back to 1, and works with 2)"
)
IN_ITS_PLACE = "PyTorch can train and predict in its place: pip install torch safetensors"


def _financial(*args, **kwargs):
    """Stand for the financial functions that MXNet passes on and NumPy 1.20 gave up."""
    raise RuntimeError("NumPy has no financial functions any more: use the package numpy-financial")


def _restore_numpy_names() -> None:
    """Put back the NumPy names that MXNet 1.9.1 uses and NumPy 1.24 to 2.x removed."""
    replacements = {
        "bool": np.bool_,
        "int": int,
        "float": float,
        "object": object,
        "PZERO": 0.0,
        "NZERO": -0.0,
        "PINF": np.inf,
        "NINF": -np.inf,
        "NaN": np.nan,
        "NAN": np.nan,
        "Inf": np.inf,
        "alltrue": np.all,
        "sometrue": np.any,
        "round_": np.round,
        "product": np.prod,
        "cumproduct": np.cumprod,
        "in1d": lambda ar1, ar2, *args, **kwargs: np.isin(np.ravel(ar1), ar2, *args, **kwargs),
        "msort": lambda a: np.sort(a, axis=0),
        "row_stack": np.vstack,
        "trapz": getattr(np, "trapezoid", None),
        "compat": types.SimpleNamespace(basestring=str),
        **dict.fromkeys(("mirr", "npv", "pmt", "ppmt", "pv", "rate"), _financial),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # merely asking for an outgoing name warns
        for name, value in replacements.items():
            if not hasattr(np, name):
                setattr(np, name, value)


def _restore_numpy_numbers() -> None:
    """Let NumPy 2 write a number as NumPy 1 does, ``8`` and not ``np.int64(8)``: MXNet tells operators theirs so."""
    if int(np.__version__.split(".")[0]) >= 2:
        np.set_printoptions(legacy="1.25")


def _restore_distutils() -> None:
    """Give Python 3.12 and later the version comparison of ``distutils``, all that MXNet and GluonCV use of it."""
    if sys.version_info < (3, 12):
        return
    from packaging.version import parse

    version = types.ModuleType("distutils.version")
    version.LooseVersion = version.StrictVersion = parse
    package = types.ModuleType("distutils")
    package.version = version
    sys.modules.setdefault("distutils", package)
    sys.modules.setdefault("distutils.version", version)


def _restore_threads() -> None:
    """Give threads the name that dmlc_tracker calls, which Python 3.9 removed."""
    if not hasattr(threading.Thread, "isAlive"):
        threading.Thread.isAlive = threading.Thread.is_alive


chosen: dict[str, str] = {}  # what was put into the environment, where the user had not set it


def _set_environment() -> None:
    """Set what MXNet reads from the environment when it loads, each unless the user has set it."""
    # MXNet counts on hyper-threads and takes half of the cores.
    if "MXNET_OMP_MAX_THREADS" not in os.environ:
        _choose("OMP_NUM_THREADS", str(cores()))
    # MXNet folds a convolution into the BatchNorm behind it even where a shortcut needs the unfolded output,
    # as every identity shortcut of a pre-activation net does, and then answers wrongly without a word.
    _choose("MXNET_DISABLE_MKLDNN_FUSE_CONV_BN", "1")
    _choose("MXNET_SUBGRAPH_VERBOSE", "0")
    _choose("MXNET_STORAGE_FALLBACK_LOG_VERBOSE", "0")


def _choose(name: str, value: str) -> None:
    if name not in os.environ:
        os.environ[name] = chosen[name] = value


def share_cores(parts: int) -> None:
    """Before MXNet is loaded: give each of ``parts`` that compute at once its share of the cores.

    More threads than cores would wait for each other, many times as long. A number that the user has set stays.
    """
    if "OMP_NUM_THREADS" in chosen:
        os.environ["OMP_NUM_THREADS"] = str(max(1, int(chosen["OMP_NUM_THREADS"]) // parts))


def choose_threads(devices: int, before: int | None, fixed: bool) -> list[str]:
    """Before MXNet is loaded: choose the threads of each of ``devices``; a sentence where they are not for all cores.

    A run that goes on has as many as ``before``, since its rounding follows from them; a new one leaves cores to others
    that keep them busy, unless its number is ``fixed``. oneDNN's threads wait for each other within the gradients of a
    convolution, and spin however OMP_WAIT_POLICY lets them wait: one whose core is taken holds up all
    (docs/performance.md). A number that the user has set stays.
    """
    share_cores(devices)
    if "OMP_NUM_THREADS" not in chosen:
        return []
    most = int(os.environ["OMP_NUM_THREADS"])
    why = "as the run has had them"
    threads = before if before is not None and before <= most else most
    if before is None and not fixed:
        busy, bound = count_busy_cores(), count_bound_cores()
        threads = min(most, max(1, (bound - busy) // devices))
        why = f"since other work keeps {busy} of {bound} cores busy"
    if threads == most:
        return []
    os.environ["OMP_NUM_THREADS"] = str(threads)
    each = " on each device" if devices > 1 else ""
    return [f"MXNet computes with {threads} of {most} threads{each}, {why}: OMP_NUM_THREADS sets another number"]


def _quiet_warnings() -> None:
    """Silence what MXNet's own code makes newer Pythons and NumPys say; warnings for the user's code stay."""
    for module in ("mxnet", "gluoncv", "dmlc_tracker"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)", category=DeprecationWarning)
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)", category=SyntaxWarning)
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)", category=FutureWarning)


def _load_cuda_libraries() -> None:
    """Load CUDA's libraries from the ``nvidia-*-cu11`` packages, so that libmxnet.so finds them already there.

    Does nothing where those packages are not installed.
    """
    found = {library.name: library for folder in map(Path, sys.path) for library in folder.glob("nvidia/*/lib/*.so*")}
    for name in CUDA_LIBRARIES:
        if name in found:
            ctypes.CDLL(str(found[name]), mode=ctypes.RTLD_GLOBAL)


def prepare() -> None:
    """Make this process ready for ``import mxnet``: NumPy's names, modules, the environment, warnings, libraries."""
    _restore_numpy_names()
    _restore_numpy_numbers()
    _restore_distutils()
    _restore_threads()
    _set_environment()
    _quiet_warnings()
    _load_cuda_libraries()


def load() -> None:
    """Import MXNet. Raises UserError where it is not installed, or lacks a library of the system."""
    if os.environ.get("DMLC_ROLE") in ("server", "scheduler"):  # MXNet would serve, and unpickle what it is sent
        raise UserError(
            "this command takes no part in a job: tools/launch.py starts train_resnet.py --kv-store dist_sync"
        )
    try:
        import mxnet  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "mxnet":
            raise
        raise UserError(f"{NOT_INSTALLED}; {IN_ITS_PLACE}") from error
    except OSError as error:
        if reason := missing_library(error):
            raise UserError(reason) from error
        raise


def restore_onnx_names() -> None:
    """Give onnx 1.19 and later the tables ``onnx.mapping`` that MXNet's exporter reads; to be called before it is."""
    import onnx

    try:
        importlib.import_module("onnx.mapping")
    except ImportError:
        types_of = {
            onnx.helper.tensor_dtype_to_np_dtype(number): number for number in onnx.helper.get_all_tensor_dtypes()
        }
        onnx.mapping = types.SimpleNamespace(
            NP_TYPE_TO_TENSOR_TYPE=types_of,
            TENSOR_TYPE_TO_NP_TYPE={number: kind for kind, number in types_of.items()},
        )


def import_mxnet_quickly() -> None:
    """Import MXNet for a command that is soon done: in half of the time, and with threads that sleep while they wait.

    MXNet takes a base class from scikit-learn, which takes pandas with it, for a class that no one uses here, and SciPy
    for sparse arrays and quantization: a command that needs these imports MXNet as usual. Threads that spin take the
    cores from each other on a machine that has other work: seconds for one image. So they need not be fewer there.
    """
    if sys.modules.get("mxnet") is not None:
        return
    _choose("OMP_WAIT_POLICY", "passive")
    absent = {"sklearn", "scipy"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(absent))  # None: as if it were not installed
    try:
        load()
    finally:
        for name in absent:
            del sys.modules[name]


def missing_library(error: OSError) -> str | None:
    """What to do about a system library without which MXNet does not load, or None for any other error."""
    if "libcuda.so.1" in str(error):
        return (
            "mxnet-cu112 needs the NVIDIA driver (libcuda.so.1), which is not here: install the driver, or for the CPU "
            "requirements.txt instead of requirements-gpu.txt"
        )
    if "libgomp.so.1" in str(error) or "libquadmath.so.0" in str(error):
        return f"MXNet does not load ({error}): on Debian and Ubuntu, apt-get install libgomp1 libquadmath0"
    return None


def has_bfloat16() -> bool:
    """Whether this CPU computes bfloat16 (AVX512-BF16)."""
    processor = Path("/proc/cpuinfo")  # Linux's
    return processor.exists() and "avx512_bf16" in processor.read_text()

"""Classify the globals that a pickle imports: part of weights, dangerous, or neither. No torch.

The first are those that PyTorch's own `weights_only` loading allows; nothing here is ever imported or called, they only
describe tensors. The second can run code; a file that imports one is refused.
"""

from __future__ import annotations

from enum import IntEnum

STORAGES = {  # PyTorch's typed storages -> dtypes in safetensors' names
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}
DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
}


class GlobalKind(IntEnum):
    """In order of danger."""

    ALLOWED = 0  # part of weights
    UNKNOWN = 1  # mostly left over from training: never imported, never needed
    DANGEROUS = 2  # can run code


_PLAIN = frozenset(
    {
        "set",
        "frozenset",
        "dict",
        "list",
        "tuple",
        "int",
        "float",
        "bool",
        "str",
        "bytes",
        "bytearray",
        "complex",
        "slice",
        "range",
        "object",
        "long",
        "unicode",
        "basestring",
        "xrange",
        "NoneType",
        "Ellipsis",
    }
)
_ARRAYS = frozenset({"scalar", "_reconstruct"})
_ALLOWED = {
    "builtins": _PLAIN,
    "__builtin__": _PLAIN,
    "collections": frozenset({"OrderedDict", "defaultdict", "Counter"}),
    "torch": frozenset(
        {
            *STORAGES,
            *DTYPES,
            "ComplexFloatStorage",
            "ComplexDoubleStorage",
            "complex64",
            "complex128",
            "Size",
            "device",
            "Tensor",
            "strided",
        }
    ),
    "torch.cuda": frozenset(STORAGES),
    "torch.storage": frozenset({"UntypedStorage", "TypedStorage", "_UntypedStorage", "_TypedStorage"}),
    "torch._utils": frozenset(
        {
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_sparse_tensor",
            "_rebuild_meta_tensor_no_storage",
        }
    ),
    "torch._tensor": frozenset({"_rebuild_from_type_v2", "Tensor"}),
    "torch.nn.parameter": frozenset({"Parameter", "Buffer"}),
    "torch.nn.modules.container": frozenset({"ParameterDict", "ParameterList"}),
    "numpy": frozenset(
        {"dtype", "ndarray", *(f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64))}
    ),
    "numpy.core.multiarray": _ARRAYS,
    "numpy._core.multiarray": _ARRAYS,
    "_codecs": frozenset({"encode"}),
    "copyreg": frozenset({"_reconstructor"}),
    "copy_reg": frozenset({"_reconstructor"}),
}


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DANGEROUS_MODULES = _split("""
    os posix nt posixpath ntpath subprocess _posixsubprocess sys socket _socket socketserver ssl shutil pty commands popen2 runpy
    importlib imp pkgutil zipimport code codeop pip _pip ensurepip venv site webbrowser requests urllib urllib2 urllib3 httplib http
    aiohttp httpx ftplib smtplib poplib imaplib telnetlib nntplib xmlrpc asyncio multiprocessing concurrent threading _thread signal
    ctypes _ctypes cffi _cffi_backend pickle _pickle cPickle pickletools shelve dill cloudpickle joblib marshal inspect gc bdb pdb
    cProfile profile trace timeit doctest unittest lib2to3 idlelib distutils setuptools pkg_resources tempfile fileinput glob
    linecache platform mmap fcntl winreg _winreg _winapi msvcrt ast dis symtable compileall py_compile rlcompleter readline cmd
    logging.config wsgiref antigravity sched atexit faulthandler builtins __builtin__ IPython paramiko fabric psutil pexpect sh
    plumbum execnet
""")
_OPERATOR, _IO = _split("attrgetter methodcaller call itemgetter"), _split("open open_code FileIO")
_DANGEROUS = {
    "operator": _OPERATOR,
    "_operator": _OPERATOR,
    "io": _IO,
    "_io": _IO,
    "types": _split("FunctionType LambdaType CodeType MethodType BuiltinFunctionType ModuleType"),
    "functools": _split("reduce partialmethod"),
    "_functools": _split("reduce"),
    "torch": _split("load hub jit serialization compile ops package"),
    "torch.storage": _split("_load_from_bytes"),
    "torch.serialization": _split("load _load _legacy_load"),
    "numpy": _split("load fromfile memmap save savez loadtxt genfromtxt"),
    "pandas": _split("read_pickle eval"),
}
_DANGEROUS_PREFIXES = tuple(
    _split("""
    torch.hub torch.jit torch.package torch._dynamo torch._inductor torch.utils.cpp_extension torch.distributed.rpc
    torch.distributed.elastic torch.distributed.run torch.distributed.launch torch.multiprocessing torch.utils.collect_env
    torch.utils.bottleneck torch.testing torch.fx numpy.testing numpy.distutils numpy.f2py numpy.lib.npyio numpy.lib._npyio
""")
)
_DANGEROUS_WORDS = _split("""
    eval exec execfile compile __import__ import_module getattr setattr delattr breakpoint system popen popen2 popen3 popen4
    spawn spawnl spawnv spawnve execv execve execl execle fork forkpty Popen check_output check_call getoutput getstatusoutput
    run_path run_module runcode runsource runstring loads load_module exec_module globals locals __class__ __bases__ __subclasses__
    __globals__ __builtins__ __getattribute__ __getattr__ __call__ __reduce__ __code__ __dict__ __mro__ __base__ __loader__ __spec__
""")


def classify(module: str, name: str) -> GlobalKind:
    """The kind of a global. `name` may be dotted, as protocol 4 allows."""
    if name in _ALLOWED.get(module, ()):
        return GlobalKind.ALLOWED
    parts = module.split(".")
    if (
        parts[0] in _DANGEROUS_MODULES
        or module in _DANGEROUS_MODULES
        or name in _DANGEROUS.get(module, ())
        or any(module == prefix or module.startswith(f"{prefix}.") for prefix in _DANGEROUS_PREFIXES)
    ):
        return GlobalKind.DANGEROUS
    attributes = name.split(".")
    reached = any(part in _DANGEROUS_MODULES for part in attributes[:-1])  # torch.serialization, "os.system"
    if reached or not _DANGEROUS_WORDS.isdisjoint(attributes) or not _DANGEROUS_WORDS.isdisjoint(parts):
        return GlobalKind.DANGEROUS
    return GlobalKind.UNKNOWN

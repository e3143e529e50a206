#!/usr/bin/env python3
"""Checks the CUDA kernels in ops/src/cuda on a machine without a GPU.

    tools/kernels.py               runs each, thread by thread, on the CPU, against its definition (needs c++)
    tools/kernels.py --nvrtc LIB   also compiles each as the program does, for two generations of GPUs; LIB is libnvrtc.so.N, and
                                   LD_LIBRARY_PATH leads to the folder of its built-in headers
"""

import argparse
import ctypes
import os
import pathlib
import re
import subprocess
import sys
import tempfile

KERNELS = pathlib.Path(__file__).resolve().parent.parent / "ops/src/cuda"
# Kernels that are compiled for several sizes of a head.
DIMS = {"attention": [32, 64, 96, 128]}
# What comes between common.cuh and a source.
HEADERS = {"attention": "tensor_core.cuh", "norm": "norm.cuh", "norm_last": "norm.cuh"}
# Real ones, so that instructions of their own are assembled and not only copied.
GENERATIONS = ["sm_80", "sm_90"]


def variants(name):
    """Each kind that a source is compiled in: its name, and definitions that come before it."""
    return [(f"{name} {dim}", {"DIM": dim}) for dim in DIMS[name]] if name in DIMS else [(name, {})]


def source(name, definitions):
    """As the program puts it together (`include_str!` in NAME.rs)."""
    headers = ["common.cuh"] + ([HEADERS[name]] if name in HEADERS else [])
    defined = "".join(f"#define {key} {value}\n" for key, value in definitions.items())
    return defined + "".join((KERNELS / file).read_text() for file in headers + [f"{name}.cu"])


def compile_all(names, checks, library):
    nvrtc = ctypes.CDLL(library)
    failed = []
    for name in names:
        before = len(failed)
        for title, definitions in variants(name):
            for generation in GENERATIONS:
                program = ctypes.c_void_p()
                text = source(name, definitions).encode()
                code = nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, f"{name}.cu".encode(), 0, None, None)
                options = (ctypes.c_char_p * 1)(f"--gpu-architecture={generation}".encode())
                code = code or nvrtc.nvrtcCompileProgram(program, 1, options)
                if code:
                    size = ctypes.c_size_t()
                    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
                    log = ctypes.create_string_buffer(size.value)
                    nvrtc.nvrtcGetProgramLog(program, log)
                    print(log.value.decode(errors="replace")[:2000], file=sys.stderr)
                    failed.append(f"{title} for {generation} does not compile")
                else:
                    size = ctypes.c_size_t()
                    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
                    ptx = ctypes.create_string_buffer(size.value)
                    nvrtc.nvrtcGetPTX(program, ptx)
                    entries = re.findall(r"\.entry (\w+)\(", ptx.value.decode())
                    unseen = [entry for entry in entries if entry not in checks]
                    failed += [f"no check names {', '.join(unseen)}"] if unseen or not entries else []
                nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
        print(f"{name}: {'compiles' if len(failed) == before else failed[-1]}", flush=True)
    return failed


def run_all(names, folder):
    failed = []
    for name in names:
        for title, definitions in variants(name):
            program = folder / title.replace(" ", "_")
            defined = [f"-D{key}={value}" for key, value in definitions.items()]
            quiet = ["-Wall", "-Wno-unknown-pragmas", "-Wno-sign-compare"]
            check = KERNELS / "emulated" / f"{name}.cpp"
            built = subprocess.run(["c++", "-std=c++17", "-O2", *quiet, *defined, check, "-o", program])
            # Threads by turns, and warps one after the other as far as each comes.
            orders = [os.environ, {**os.environ, "WARPS_ALONE": "1"}]
            runs = (subprocess.run([program], stdout=subprocess.DEVNULL, env=env, timeout=600) for env in orders)
            wrong = built.returncode or any(run.returncode for run in runs)
            failed += [f"{title} fails"] if wrong else []
            print(f"{title}: {'FAILED' if wrong else 'as defined'}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvrtc", metavar="LIB")
    arguments = parser.parse_args()
    sources = sorted(path.stem for path in KERNELS.glob("*.cu"))
    checks = sorted(path.stem for path in (KERNELS / "emulated").glob("*.cpp"))
    texts = "".join(path.read_text() for path in sorted((KERNELS / "emulated").glob("*.[ch]*")))
    failed = [f"{name} has no check" for name in sources if f'"../{name}.cu"' not in texts]
    with tempfile.TemporaryDirectory() as folder:
        failed += run_all(checks, pathlib.Path(folder))
    if arguments.nvrtc:
        failed += compile_all(sources, texts, arguments.nvrtc)
    if failed:
        sys.exit("; ".join(dict.fromkeys(failed)))


main()

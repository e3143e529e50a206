#!/usr/bin/env bash
# Sets up what the `cuda` feature is compiled with (nvcc 13.0, cuBLAS, cuRAND, NVRTC, cuDNN 9) from PyPI wheels, for machines
# that have neither a GPU nor a CUDA installation, and prints the environment for the build on stdout:
#
#     eval "$(tools/cuda-toolchain.sh ~/.cache/vqlc-ci/cuda)"
#     cargo build --release --features cuda
#
# Needs g++, python3 with venv, and about 2 GB of disk. A second call with the same folder does nothing but print.
# CUDA_COMPUTE_CAP chooses the GPU generation (default 90: H100, H200). The binary is linked against the CUDA libraries by
# name: where it runs, the driver has libcuda.so.1 and LD_LIBRARY_PATH must lead to the others (see README.md, "GPU").
set -euo pipefail

if [[ $# -ne 1 ]]; then
  echo "usage: $0 FOLDER" >&2
  exit 1
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)

# Compiler and headers first, then the libraries that candle and cudarc link.
wheels=(
  nvidia-cuda-nvcc==13.0.88
  nvidia-cuda-crt==13.0.88
  nvidia-nvvm==13.0.88
  nvidia-cuda-runtime==13.0.96
  'nvidia-cuda-cccl==13.0.*'
  'nvidia-cuda-nvrtc==13.0.*'
  'nvidia-cublas==13.1.*'
  nvidia-curand==10.4.0.35
  nvidia-cudnn-cu13==9.19.0.56
)

# The stamp is written last, so that an interrupted setup is done again.
stamp=$folder/wheels.txt
if [[ "$(cat "$stamp" 2>/dev/null || true)" != "${wheels[*]}" ]]; then
  rm -rf "$folder/venv" "$stamp"
  python3 -m venv "$folder/venv" >&2
  "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir "${wheels[@]}" >&2

  packages=$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia
  home=$packages/cu13
  mkdir -p "$home/lib64"
  ln -sfn "$packages"/cudnn/include/* "$home/include/"
  ln -sfn "$home"/lib/*.a "$home/lib64/"
  # Wheels have no `libX.so`, which is what the linker asks for, only `libX.so.N`, which is what the loader asks for.
  while IFS= read -r -d '' library; do
    file=${library##*/}
    ln -sfn "$library" "$home/lib64/$file"
    ln -sfn "$library" "$home/lib64/${file%%.so*}.so"
  done < <(find "$home/lib" "$packages/cudnn/lib" -name '*.so.*' -print0)

  # The driver's library comes with the driver only. An empty stand-in with the driver functions' names is enough to link;
  # it is never loaded, since its soname is the real library's.
  {
    grep -ohE '\bcu[A-Z][A-Za-z0-9_]*' "$home"/include/cuda.h "$home"/include/cuda{EGL,GL,Profiler}*.h || true
  } | sort -u | sed 's/.*/void &(void) {}/' > "$folder/driver.c"
  cc -w -shared -fno-builtin -Wl,-soname,libcuda.so.1 -o "$home/lib64/libcuda.so" "$folder/driver.c"

  printf '%s' "${wheels[*]}" > "$stamp"
fi

home=$(echo "$folder"/venv/lib/python3*/site-packages/nvidia/cu13)
printf 'export CUDA_HOME=%q\n' "$home"
printf 'export CUDA_COMPUTE_CAP=%q\n' "${CUDA_COMPUTE_CAP:-90}"
printf 'export LIBRARY_PATH=%q\n' "$home/lib64${LIBRARY_PATH:+:$LIBRARY_PATH}"
printf 'export PATH=%q:"$PATH"\n' "$home/bin"

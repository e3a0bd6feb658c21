#!/usr/bin/env bash
# Serve a model with the official container of Triton Inference Server, until Ctrl-C:
#
#   scripts/run_triton_server.sh baseline|attention|advanced onnx|trt PATH
#
# PATH is a bundle, or a model repository that `vidcap export triton` wrote. HTTP is on port 8000, gRPC on 8001,
# metrics on 8002. TRITON_IMAGE names another image: its Python backend must know NumPy 2 (24.12 or newer), and
# TensorRT engines must have been built by its version of TensorRT.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
image=${TRITON_IMAGE:-nvcr.io/nvidia/tritonserver:25.06-py3}

fail() {
  echo "run_triton_server: $1" >&2
  exit "${2:-1}"
}

usage="usage: scripts/run_triton_server.sh baseline|attention|advanced onnx|trt PATH"
[[ $# == 3 && $1 =~ ^(baseline|attention|advanced)$ && $2 =~ ^(onnx|trt)$ ]] || fail "$usage" 2
kind=$1 path=$3
[[ $2 == onnx ]] && backend=onnxruntime || backend=tensorrt

if [[ -f $path/captioner/config.pbtxt ]]; then
  bundle=$path/captioner/1/bundle
  grep -qs "^backend: \"$backend\"" "$path/encoder/config.pbtxt" ||
    fail "$path: was not written for $2; write another: vidcap export triton --backend $backend BUNDLE REPOSITORY"
elif [[ -f $path/bundle.json ]]; then
  bundle=$path
else
  fail "$path: neither a bundle nor a model repository; write one: vidcap export triton BUNDLE REPOSITORY"
fi
grep -qs "^  \"kind\": \"$kind\"" "$bundle/bundle.json" || fail "$path: does not hold a model of the kind $kind"

docker=$(command -v docker || command -v podman) ||
  fail "neither docker nor podman is installed; install one, or run tritonserver by hand: docs/triton.md"
gpus=()
if command -v nvidia-smi > /dev/null; then
  [[ $docker == *podman ]] && gpus=(--device nvidia.com/gpu=all) || gpus=(--gpus all)
elif [[ $2 == trt ]]; then
  fail "TensorRT needs an NVIDIA GPU and its driver, and there is no nvidia-smi; serve with onnx instead"
fi

if [[ $bundle == "$path" ]]; then
  temporary=$(mktemp -d)
  trap 'rm -rf "$temporary"' EXIT
  path=$temporary/repository
  "${PYTHON:-python}" -m video_captioning export triton --backend "$backend" "$bundle" "$path" >&2
fi

# The captioner needs vidcap and what it imports: installed from the lock in the container, which is thrown away.
"$docker" run --rm --init "${gpus[@]}" --shm-size=1g -p 8000:8000 -p 8001:8001 -p 8002:8002 \
  -v "$(realpath "$path"):/models:ro" \
  -v "$root/video_captioning:/vidcap/video_captioning:ro" \
  -v "$root/requirements-core.lock:/vidcap/requirements-core.lock:ro" \
  -e PIP_BREAK_SYSTEM_PACKAGES=1 \
  "$image" bash -ec '
    pip install --quiet --require-hashes -r /vidcap/requirements-core.lock
    echo /vidcap > "$(python3 -c "import site; print(site.getsitepackages()[0])")/vidcap.pth"
    exec tritonserver --model-repository=/models'

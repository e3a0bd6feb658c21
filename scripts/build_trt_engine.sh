#!/usr/bin/env bash
# A TensorRT engine of one ONNX graph of a bundle, beside it: models/mine/step.onnx -> models/mine/step.plan
# trtexec comes from the PATH, or from NVIDIA's container by docker or podman.
set -euo pipefail

usage="usage: $0 ONNX [--fp16|--fp32]"
[[ $# -ge 1 && $# -le 2 && $1 == *.onnx ]] || { echo "$usage" >&2; exit 2; }
precision=${2:---fp16}
[[ $precision == --fp16 || $precision == --fp32 ]] || { echo "$usage" >&2; exit 2; }

exec "${PYTHON:-python}" -m video_captioning export tensorrt "$1" "${1%.onnx}.plan" "$precision"

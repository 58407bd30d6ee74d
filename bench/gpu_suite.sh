#!/usr/bin/env bash
# The figures of docs/recipes.md on one CUDA GPU, without ROS: under 9 minutes, nothing downloaded.
# Needs torch, transformers, OpenCV, numpy, PyYAML and pytest. Results go to bench/results/.
#   PYTHON=python3   OUT=bench/results   SECONDS_LEFT=520
# Every step has what is left of the time; one that fails or does not fit is named at the end, and the others run.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-bench/results} DEVICE=${DEVICE:-cuda} LIMIT=${SECONDS_LEFT:-520}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_DISABLE_PROGRESS_BARS=1
started=$(date +%s) failed=()
step() {  # NAME COMMAND...: run it with what is left of the time, its output to NAME.txt
    local name=$1 left=$((LIMIT - $(date +%s) + started))
    shift
    if [ "$left" -lt 10 ]; then
        failed+=("$name (no time left)")
        return
    fi
    echo "\$ ${*/#$PYTHON/python3}" | tee "$OUT/$name.txt"
    if timeout "$left" "$@" 2>"$OUT/$name.err" | tee -a "$OUT/$name.txt"; then
        rm -f "$OUT/$name.err"
    else
        failed+=("$name")
        tail -n 15 "$OUT/$name.err"
    fi
    echo "[$(($(date +%s) - started)) s]"
    echo
}
bench() {  # NAME ARGUMENTS...
    local name=$1
    shift
    step "$name" "$PYTHON" -m argus_ros.tools.main bench --device "$DEVICE" --size 640x480 "$@" \
        --json "$OUT/$name.json" --picture "$OUT/$name.png"
}
profile() {
    local name=$1
    shift
    step "$name" "$PYTHON" -m argus_ros.tools.main profile --device "$DEVICE" --size 640x480 "$@" \
        --json "$OUT/$name.json" --html "$OUT/$name.html"
}
bench gpu_smolvlm_256m --config smolvlm-256m --rounds 20 --ladder
bench gpu_internvl3_2b --config internvl3-2b --rounds 10
bench gpu_argus_256m --config argus-256m --rounds 20
bench gpu_argus_500m --config argus-500m --rounds 20
profile gpu_smolvlm_256m_profile --config smolvlm-256m
profile gpu_argus_256m_profile --config argus-256m
# Tokens equal the reference's in float32 (TF32 off); the agreement in bfloat16 is printed, not promised.
ARGUS_TEST_DEVICE=$DEVICE step gpu_exactness "$PYTHON" -m pytest -q -s -p no:cacheprovider -m gpu test/vlm

if [ ${#failed[@]} -gt 0 ]; then
    printf 'did not finish: %s\n' "${failed[@]}" >&2
    exit 1
fi

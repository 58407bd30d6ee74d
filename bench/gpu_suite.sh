#!/usr/bin/env bash
# The figures of docs/recipes.md on one CUDA GPU, without ROS: under 9 minutes, nothing downloaded.
# Needs torch, transformers, OpenCV, numpy, PyYAML and pytest. Results go to bench/results/.
#   PYTHON=python3   OUT=bench/results   SECONDS_LEFT=520   ROUNDS=15   MODELS="smolvlm-256m ..."
#   On a machine without a GPU, DEVICE=cpu MODELS=argus-nano ROUNDS=2 shows that all of it runs.
# Every step has what is left of the time; one that fails or does not fit is named at the end, and the others run.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-bench/results} DEVICE=${DEVICE:-cuda} LIMIT=${SECONDS_LEFT:-520}
ROUNDS=${ROUNDS:-15}
read -ra models <<<"${MODELS:-smolvlm-256m internvl3-2b argus-256m argus-500m}"
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
        --json "$OUT/$name.json" --picture "$OUT/$name.svg"
}
profile() {
    local name=$1
    shift
    step "$name" "$PYTHON" -m argus_ros.tools.main profile --device "$DEVICE" --size 640x480 "$@" \
        --json "$OUT/$name.json" --html "$OUT/$name.html"
}
# The ladder for the first model, where the time goes for the first and the third.
ladder=(--ladder)
for model in "${models[@]}"; do
    bench "gpu_${model//-/_}" --config "$model" --rounds "$ROUNDS" "${ladder[@]}"
    ladder=()
done
# Tokens equal the reference's in float32 (TF32 off); the agreement in bfloat16 is printed, not promised.
# (Without the project's own settings of pytest, some of which are for plugins that need not be here.)
ARGUS_TEST_DEVICE=$DEVICE step gpu_exactness "$PYTHON" -m pytest -q -s -p no:cacheprovider -c /dev/null \
    --rootdir . --import-mode=importlib test/vlm/test_cuda.py test/vlm/test_upload.py
for model in "${models[0]}" "${models[2]:-}"; do
    [ -n "$model" ] && profile "gpu_${model//-/_}_profile" --config "$model" --rounds 5
done

if [ ${#failed[@]} -gt 0 ]; then
    printf 'did not finish: %s\n' "${failed[@]}" >&2
    exit 1
fi

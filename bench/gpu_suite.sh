#!/usr/bin/env bash
# The figures of docs/recipes.md and docs/kernels.md on one CUDA GPU, without ROS, nothing downloaded:
#   bash bench/gpu_suite.sh [--part smoke|exactness|kernels|bench|profile]...    (no part: all but smoke)
# Needs torch, transformers, Triton, OpenCV, numpy, PyYAML and pytest. Results go to bench/results/ as they come, the
# most telling first, and what has changed against the figures that were there is printed at the end.
#   PYTHON=python3   OUT=bench/results   SECONDS_LEFT=520   ROUNDS=15   MODELS="smolvlm-256m ..."
#   DEVICE=cpu MODELS=argus-nano ROUNDS=2 TRITON_INTERPRET=1 shows on a machine without a GPU that all of it runs.
# smoke takes three minutes: a little of everything. Every step has a limit and no more than what is left of the time;
# one that fails or does not fit is named at the end, and the others run.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-bench/results} DEVICE=${DEVICE:-cuda} LIMIT=${SECONDS_LEFT:-520}
ROUNDS=${ROUNDS:-15}
parts=()
while [ $# -gt 0 ]; do
    case "$1 ${2:-}" in
        "--part smoke" | "--part exactness" | "--part kernels" | "--part bench" | "--part profile") parts+=("$2") ;;
        *) sed -n 2,11p "$0" >&2 && exit 2 ;;
    esac
    shift 2
done
[ ${#parts[@]} -gt 0 ] || parts=(exactness kernels bench profile)
read -ra models <<<"${MODELS:-argus-256m smolvlm-256m internvl3-2b argus-500m}"
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONUNBUFFERED=1
landed=$(mktemp -d)
trap 'rm -rf "$landed"' EXIT
cp bench/results/gpu_*.json "$landed"
started=$(date +%s) failed=()
step() {  # SECONDS NAME COMMAND...: run it for as long at most, its output to NAME.txt
    local left=$((LIMIT - $(date +%s) + started)) name=$2
    [ "$left" -lt "$1" ] || left=$1
    shift 2
    if [ "$left" -lt 10 ]; then
        failed+=("$name (no time left)")
        return
    fi
    echo "\$ ${*/#$PYTHON/python3}" | tee "$OUT/$name.txt"
    if timeout -s INT -k 5 "$left" "$@" 2>"$OUT/$name.err" | tee -a "$OUT/$name.txt"; then
        grep -h -i "fused_kernels is off\|cannot be recorded" "$OUT/$name.err" | sort | uniq -c | head -n 5
        rm -f "$OUT/$name.err"
    else
        failed+=("$name")
        tail -n 15 "$OUT/$name.err"
    fi
    echo "[$(($(date +%s) - started)) s]"
    echo
}
bench() {  # SECONDS NAME ARGUMENTS...
    local limit=$1 name=$2
    shift 2
    step "$limit" "$name" "$PYTHON" -m argus_ros.tools.main bench --device "$DEVICE" --size 640x480 "$@" \
        --json "$OUT/$name.json" --picture "$OUT/$name.svg"
}
# Tokens equal the reference's in float32 (TF32 off); the agreement in bfloat16 is printed, not promised.
# (Without the project's own settings of pytest, some of which are for plugins that need not be here.)
exactness() {  # SECONDS [TEST...]
    local limit=$1 spread=()
    shift
    "$PYTHON" -c "import xdist" 2>/dev/null && spread=(-n "$(($(nproc) < 12 ? $(nproc) : 12))")
    ARGUS_TEST_DEVICE=$DEVICE step "$limit" gpu_exactness "$PYTHON" -m pytest -q -s -p no:cacheprovider -c /dev/null \
        --rootdir . --import-mode=importlib --tb=short -rfE "${spread[@]}" "$@"
}
kernels() {  # SECONDS NAME ARGUMENTS...
    local limit=$1 name=$2
    shift 2
    step "$limit" "$name" "$PYTHON" bench/decode_kernels.py --device "$DEVICE" --json "$OUT/$name.json" --measure "$@"
}
for part in "${parts[@]}"; do
    echo "== $part"
    case $part in
        smoke)
            few=$((ROUNDS < 5 ? ROUNDS : 5)) with=realtime,realtime-fused_kernels
            kernels 45 gpu_kernels_smoke "${models[@]:0:2}" --tokens 1 8
            bench 60 "gpu_smoke_${models[0]//-/_}" --config "${models[0]}" --rounds "$few" \
                --presets "$with,realtime-jump_forward,realtime-fused_kernels-jump_forward"
            bench 30 gpu_smoke_nano --checkpoint argus-nano --rounds "$few" --presets "$with,realtime-jump_forward"
            [ ${#models[@]} -lt 2 ] || bench 60 "gpu_smoke_${models[1]//-/_}" --config "${models[1]}" \
                --rounds "$few" --presets "$with,realtime-jump_forward"
            exactness 100 test/vlm/models/test_elementwise.py test/vlm/decoding/test_cuda.py test/vlm/models/test_fused.py  # most of it is the compiler's time
            ;;
        exactness) exactness 120 test/vlm/models/test_elementwise.py test/vlm/decoding/test_cuda.py test/vlm/decoding/test_upload.py \
            test/vlm/models/test_fused.py ;;
        kernels)  # figures come one by one, so that a limit cuts only the last ones
            step 25 gpu_rows "$PYTHON" bench/decode_kernels.py --device "$DEVICE" --rows "${models[@]}"
            kernels 95 gpu_kernels "${models[@]}" --tokens 1 8 --each
            ;;
        bench)  # the ladder for the second model, SmolVLM, and what every recipe is worth to the first
            more=(--ablation)
            for model in "${models[@]}"; do
                bench 200 "gpu_${model//-/_}" --config "$model" --rounds "$ROUNDS" "${more[@]}"
                [ "$model" = "${models[0]}" ] && more=(--ladder) || more=()
            done
            ;;
        profile)
            for model in "${models[@]:0:3}"; do
                name=gpu_${model//-/_}_profile
                step 100 "$name" "$PYTHON" -m argus_ros.tools.main profile --device "$DEVICE" --size 640x480 \
                    --config "$model" --rounds 5 --json "$OUT/$name.json" --html "$OUT/$name.html"
            done
            ;;
    esac
done
"$PYTHON" bench/changes.py "$landed" "$OUT"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'did not finish: %s\n' "${failed[@]}" >&2
    exit 1
fi

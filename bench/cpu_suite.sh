#!/usr/bin/env bash
# The figures of docs/recipes.md on a CPU: 2 cores, under 5 minutes, nothing downloaded. Results go to bench/results/.
#   PYTHON=python3   THREADS=2   OUT=bench/results
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} THREADS=${THREADS:-2} OUT=${OUT:-bench/results}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=$THREADS HF_HUB_DISABLE_PROGRESS_BARS=1
argus() {
    local log=$OUT/$1.txt
    shift
    echo "\$ argus $*" | tee "$log"
    "$PYTHON" -m argus_ros.tools.main "$@" 2>"$log.err" | tee -a "$log" || { cat "$log.err" >&2; exit 1; }
    rm -f "$log.err"
    echo
}
nano=argus-nano
[ -f argus_ros/checkpoints/$nano/config.json ] && model=(--checkpoint $nano) || model=(--config $nano)

argus cpu_preprocess_smolvlm bench --config smolvlm-256m --only preprocess --size 1280x720 --rounds 15 \
    --json "$OUT/cpu_preprocess_smolvlm.json" --picture "$OUT/cpu_preprocess_smolvlm.svg"
argus cpu_nano bench "${model[@]}" --size 640x480 --rounds 15 --ladder --ablation --device cpu \
    --json "$OUT/cpu_nano.json" --picture "$OUT/cpu_nano.svg"
argus cpu_nano_profile profile "${model[@]}" --size 640x480 --device cpu \
    --json "$OUT/cpu_nano_profile.json" --html "$OUT/cpu_nano_profile.html"

#!/usr/bin/env bash
# The tables of docs/recipes.md on a CPU: 2 cores, under 5 minutes, nothing downloaded. Results go to bench/results/.
#   PYTHON=python3   THREADS=2   OUT=bench/results
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} THREADS=${THREADS:-2} OUT=${OUT:-bench/results}
mkdir -p "$OUT"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=$THREADS HF_HUB_DISABLE_PROGRESS_BARS=1
started=$(date +%s)
argus() {  # NAME ARGUMENTS...: its output to NAME.txt
    local log=$OUT/$1.txt
    shift
    echo "\$ argus $*" | tee "$log"
    "$PYTHON" -m argus_ros.tools.main "$@" 2>"$log.err" | tee -a "$log" || { cat "$log.err" >&2; exit 1; }
    rm -f "$log.err"
    echo "[$(($(date +%s) - started)) s]"
    echo
}
bench() {  # NAME ARGUMENTS...
    local name=$1
    shift
    argus "$name" bench "$@" --json "$OUT/$name.json" --picture "$OUT/$name.svg"
}
nano=(--checkpoint argus-nano --size 640x480 --device cpu)

bench cpu_preprocess_smolvlm --config smolvlm-256m --only preprocess --size 1280x720
bench cpu_preprocess_internvl3 --config internvl3-2b --only preprocess --size 1280x720
bench cpu_nano "${nano[@]}" --ladder --ablation
bench cpu_argus_256m --config argus-256m --size 640x480 --device cpu --presets stock,realtime --rounds 2 --tokens 16
argus cpu_nano_profile profile "${nano[@]}" --json "$OUT/cpu_nano_profile.json" --html "$OUT/cpu_nano_profile.html"

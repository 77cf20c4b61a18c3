#!/usr/bin/env bash
# The main job from nothing: train a teacher, compare three curricula at the same budget, open a student, predict.
# Everything goes to runs/demo. Run the script again to continue after an interruption.
set -euo pipefail
cd "$(dirname "$0")/../.."
resume() { if [ -e "$1" ]; then echo --resume; fi; }

# shellcheck disable=SC2046
vigreux teach examples/demo/teacher.yaml $(resume runs/demo/teacher/run.json)
vigreux compare examples/demo/compare.yaml --curricula supervised,one-shot,extraction --seeds 1 \
  $(resume runs/demo/compare/compare.json)
python examples/demo/predict.py runs/demo/compare/extraction-seed0/student
echo "report: runs/demo/compare/report.html"

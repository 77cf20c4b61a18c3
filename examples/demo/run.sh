#!/usr/bin/env bash
# The main job from nothing: fit a teacher, compare three curricula at the same budget, open the student again, predict.
# Everything goes to runs/demo; what an interrupted run finished is taken up.
set -euo pipefail
cd "$(dirname "$0")/../.."
resume() { if [ -e "$1" ]; then echo --resume; fi; }

# shellcheck disable=SC2046
vigreux teach examples/demo/teacher.yaml $(resume runs/demo/teacher/run.json)
vigreux compare examples/demo/compare.yaml --curricula supervised,one-shot,extraction --seeds 1 $(resume runs/demo/compare/compare.json)
python examples/demo/predict.py runs/demo/compare/extraction-seed0/student
echo "report: runs/demo/compare/report.html"

#!/usr/bin/env bash
# Accelerate 1.15.0: `accelerate launch --cpu --num_processes 2` starts one process, without a word.
# The script says how many processes there are and which is speaking; run in turn by that launcher
# and by PyTorch's own.
# Seen: "1" from accelerate launch, though two were asked for, with exit status 0 and no warning
# that names processes; "2" from torchrun, with the same script and the same Accelerator. So a
# training that should share its batches between two CPU processes runs in one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
export HF_HOME="$folder/settings" PATH="$folder/env/bin:$PATH"
cat > "$folder/count.py" <<'PY'
from accelerate import Accelerator

accelerator = Accelerator(cpu=True)
print(f"process {accelerator.process_index} of {accelerator.num_processes}", flush=True)
accelerator.end_training()
PY
accelerate launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no \
  --dynamo_backend no "$folder/count.py" > "$folder/accelerate.txt" 2> "$folder/warnings.txt"
torchrun --nproc-per-node 2 "$folder/count.py" > "$folder/torchrun.txt"
cat "$folder"/{accelerate,warnings,torchrun}.txt
python - "$folder" <<'PY'
import json
import sys
from pathlib import Path

texts = {name: (Path(sys.argv[1]) / f"{name}.txt").read_text()
         for name in ("accelerate", "warnings", "torchrun")}
ran = {name: texts[name].count("process ") for name in ("accelerate", "torchrun")}
assert texts["accelerate"].strip() == "process 0 of 1" and "process" not in texts["warnings"]
assert sorted(texts["torchrun"].split("\n"))[1:] == ["process 0 of 2", "process 1 of 2"]
print("measured", json.dumps({"asked": 2, "launched": ran["accelerate"], "by-torchrun": ran["torchrun"]}))
PY

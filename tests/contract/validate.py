"""validate.py SCHEMA < LINES: says of each line of JSON whether it fits. Status 1 where one doesn't."""

import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
unfit = 0
for number, line in enumerate(sys.stdin, 1):
    for error in validator.iter_errors(json.loads(line)):
        unfit += 1
        print(f"line {number}: {error.json_path}: {error.message}")
print(f"{number} lines, {unfit} errors")
sys.exit(1 if unfit else 0)
